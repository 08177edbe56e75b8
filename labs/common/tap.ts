/**
 * Reads TAP as `mpt conformance` and as tap's test files print it, and writes the sum of several as one file. Counted are
 * the points at the leaves: a point that closes a subtest stands for the points in it.
 */
export interface Point {
  readonly name: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped. */
  readonly reason?: string;
}

export const STATUSES = ['passed', 'failed', 'skipped'] as const;
export type Totals = Record<Point['status'], number>;

const POINT = /^(not ok|ok)\b(?: \d+)?(?: -)?(?: (.*?))?(?: # (SKIP|TODO)\b ?(.*?))?(?: # time=\S+)?$/;
const PLAN = /^1\.\.(\d+)(?: # SKIP\b ?(.*))?$/i;
const INDENT = 4;

/** The points of one TAP stream. Text that broke off, or that is no TAP, has a failed point at its end. */
export function readTap(text: string): Point[] {
  const points: Point[] = [];
  /** Names of the subtests that are open. */
  const path: string[] = [];
  /** For each depth: what was seen deeper since the last point there. */
  const deeper: { leaf: boolean; failure: boolean }[] = [];
  let planned: number | undefined;
  let atTop = 0;
  const add = (depth: number, name: string, status: Point['status'], reason?: string): void => {
    const full = [...path.slice(0, depth), name].map(unescaped).join(' > ');
    points.push({ name: full, status, ...(reason === undefined ? {} : { reason: unescaped(reason) }) });
    for (let above = 0; above < depth; above++)
      deeper[above] = { leaf: true, failure: status === 'failed' || deeper[above]?.failure === true };
  };
  for (const { line, depth } of linesOf(text)) {
    const subtest = /^# Subtest: (.*)$/.exec(line);
    if (subtest !== null) path.splice(depth, Number.POSITIVE_INFINITY, subtest[1] as string);
    if (line.startsWith('Bail out!')) add(0, line, 'failed');
    const plan = depth === 0 ? PLAN.exec(line) : null;
    if (plan !== null) {
      planned = Number(plan[1]);
      if (planned === 0) add(0, 'everything', 'skipped', plan[2] || 'nothing to run');
    }
    const point = POINT.exec(line);
    if (point === null) continue;
    const [, result, name = '', directive, reason = ''] = point;
    const { leaf, failure } = deeper[depth] ?? { leaf: false, failure: false };
    deeper[depth] = { leaf: false, failure: false };
    if (depth === 0) atTop++;
    if (directive !== undefined) add(depth, name, 'skipped', reason || name);
    else if (!leaf) add(depth, name, result === 'ok' ? 'passed' : 'failed');
    // A subtest whose points all passed can fail of itself: its plan, its time.
    else if (result !== 'ok' && !failure) add(depth, name, 'failed');
  }
  if (planned === undefined) add(0, points.length === 0 ? 'no TAP' : 'the TAP broke off', 'failed');
  else if (planned !== atTop) add(0, `${planned} points planned, ${atTop} seen`, 'failed');
  return points;
}

/** The lines without their indent and without the YAML blocks of diagnostics. */
function* linesOf(text: string): Generator<{ line: string; depth: number }> {
  let endOfYaml: string | undefined;
  for (const whole of text.split('\n')) {
    const line = whole.trimStart();
    if (endOfYaml !== undefined) endOfYaml = whole === endOfYaml ? undefined : endOfYaml;
    else if (line === '---') endOfYaml = whole.replace('---', '...');
    else yield { line, depth: Math.floor((whole.length - line.length) / INDENT) };
  }
}

const unescaped = (text: string): string => text.replaceAll(/\\([\\#])/g, '$1');
const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('#', '\\#').replaceAll('\n', ' ');

export function totalsOf(points: readonly Point[]): Totals {
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  for (const { status } of points) totals[status]++;
  return totals;
}

/** One flat stream, with the closing summary that tap writes. */
export function writeTap(points: readonly Point[]): string {
  const lines = points.map(({ name, status, reason = '' }, index) => {
    const point = `${status === 'failed' ? 'not ok' : 'ok'} ${index + 1} - ${escaped(name)}`;
    return status === 'skipped' ? `${point} # SKIP ${escaped(reason)}` : point;
  });
  const { passed, failed, skipped } = totalsOf(points);
  const summary = `# { total: ${points.length}, pass: ${passed}, fail: ${failed}, skip: ${skipped} }`;
  return `${['TAP version 14', ...lines, `1..${points.length}`, summary].join('\n')}\n`;
}
