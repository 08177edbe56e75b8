/** Fault injection at the Syscalls seam: every system call of a scenario fails once, with each errno. */
import type { Test } from 'tap';
import { errnoText, MptError } from '../../src/core/errors.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { FaultySyscalls } from './faulty-syscalls.js';

export interface Outcome {
  /** What the steps threw, each step once. */
  readonly errors: unknown[];
  /** What stood against the expectations. */
  readonly wrong: string[];
}

/** A scenario's steps: one that throws is noted and made again; what it throws the second time ends the scenario. */
export function steps() {
  const outcome: Outcome = { errors: [], wrong: [] };
  const step = <T>(run: () => T): T => {
    try {
      return run();
    } catch (error) {
      outcome.errors.push(error);
      return run();
    }
  };
  return { ...outcome, outcome, step };
}

export interface Sweep {
  readonly errnos: Readonly<Record<string, number>>;
  readonly scenario: (sys: FaultySyscalls) => Outcome;
  /** What is still held after a run. */
  readonly leaks: (sys: FaultySyscalls) => readonly string[];
  /** Calls whose failure need not come out as an error, each with the reason. */
  readonly mayBeIgnored: Readonly<Record<string, string>>;
  /** Whether a call that answered this is made again by whoever made it, so that no error comes out; `must`: and none may. */
  readonly madeAgain: (call: string, errno: number) => 'must' | 'may' | 'no';
  /** How often the guest is waited for differs from run to run: a late call may not come. */
  readonly timed?: boolean;
}

/** How the injected failure came out, if not as it should. */
function misreported(sys: FaultySyscalls, { errors, wrong }: Outcome, { mayBeIgnored, madeAgain, timed = false }: Sweep): string[] {
  if (sys.failed === undefined) return [...wrong, ...errors.map(String), ...(timed ? [] : ['it was not made'])];
  const { name } = sys.failed;
  const ignored = name in mayBeIgnored;
  const again = madeAgain(name, sys.errno);
  const problems = [...wrong];
  for (const error of errors)
    if (!(error instanceof MptError)) problems.push(`untyped: ${error}`);
    else if (/[\r\n]/.test(error.message)) problems.push(`more than one line: ${error.message}`);
    else if (error.code === 'INTERNAL') problems.push(error.message);
    else if (error.errno !== sys.errno && !error.message.includes(errnoText(sys.errno)) && !ignored)
      problems.push(`another errno: ${error.message}`);
  if (errors.length === 0 && !ignored && again === 'no') problems.push('no error came out');
  if (errors.length > 1) problems.push(`${errors.length} errors of one failure: ${errors.join(' | ')}`);
  if (errors.length > 0 && again === 'must') problems.push('it was not made again');
  return problems;
}

/**
 * Each failure comes out as one typed line that carries the errno, or the call is made again; the failed step can be repeated; nothing
 * is left open or mapped.
 */
export function everyCallFailsOnce(t: Test, sweep: Sweep): void {
  const clean = new FaultySyscalls(libcSyscalls);
  t.same(sweep.scenario(clean), { errors: [], wrong: [] }, 'without a fault');
  t.same(sweep.leaks(clean), []);
  t.ok(clean.count > 60, `${clean.count} calls`);
  for (const [name, errno] of Object.entries(sweep.errnos)) {
    const problems = new Set<string>();
    for (let n = 1; n <= clean.count; n++) {
      const sys = new FaultySyscalls(libcSyscalls);
      Object.assign(sys, { failAt: n, errno });
      const outcome = sweep.scenario(sys);
      for (const problem of [...misreported(sys, outcome, sweep), ...sweep.leaks(sys)])
        problems.add(`call ${n}, ${sys.failed?.name}: ${problem}`);
    }
    t.same([...problems], [], `${name} at each of ${clean.count} calls`);
  }
}
