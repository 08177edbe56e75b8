/** The results as a table and as the `--json` document. */
import type { Comparison } from './compare.js';
import type { Row } from './rows.js';

/** One entry of `results`; times in `unit`, `spread` as a share of the ratio. */
export interface Result {
  readonly name: string;
  readonly ours: number;
  readonly baseline: number;
  readonly unit: string;
  readonly ratio: number;
  readonly spread: number;
}

const round = (value: number, digits: number): number => Number(value.toPrecision(digits));

export const resultOf = (row: Row, { ours, baseline, ratio, spread }: Comparison): Result => ({
  name: row.name,
  ours: round(ours / row.unit.ns, 4),
  baseline: round(baseline / row.unit.ns, 4),
  unit: row.unit.name,
  ratio: round(ratio, 4),
  spread: round(spread, 3),
});

const COLUMNS = [20, 10, 10, 5, 8, 8, 10] as const;

const line = (cells: readonly string[]): string =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(COLUMNS[0]) : cell.padStart(COLUMNS[i] as number))).join(' ');

export const tableHead = (): string => line(['name', 'ours', 'baseline', 'unit', 'ratio', 'spread', 'target']);

/** What was promised, with a word before it when it was missed. */
function promise({ target, limitNs, unit }: Row, { ours, ratio }: Result): string {
  if (target !== undefined) return `${ratio <= target ? '' : 'missed '}${target.toFixed(2)}`;
  if (limitNs === undefined) return '-';
  return `${ours * unit.ns <= limitNs ? '' : 'missed '}${limitNs / unit.ns} ${unit.name}`;
}

export function tableLine(row: Row, result: Result): string {
  const { name, ours, baseline, unit, ratio, spread } = result;
  return line([name, String(ours), String(baseline), unit, ratio.toFixed(3), `${(spread * 100).toFixed(1)}%`, promise(row, result)]);
}
