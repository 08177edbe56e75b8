/** What was found, as a table for people and as a document. */
import { MPT_OPERATIONS } from '../../src/core/mpt.js';
import type { MutantResult } from './mutant.js';

export interface MutantReport {
  readonly mutants: readonly MutantResult[];
  readonly operations: readonly { readonly operation: string; readonly mutants: number; readonly killed: number }[];
  readonly total: number;
  readonly killed: number;
  readonly ms: number;
}

export function reportOf(mutants: readonly MutantResult[], ms: number): MutantReport {
  const killed = (of: readonly MutantResult[]): number => of.filter(({ status }) => status === 'killed').length;
  const operations = MPT_OPERATIONS.map(({ name: operation }) => {
    const of = mutants.filter((result) => result.operation === operation);
    return { operation, mutants: of.length, killed: killed(of) };
  }).filter((row) => row.mutants > 0);
  return { mutants, operations, total: mutants.length, killed: killed(mutants), ms: Math.round(ms) };
}

/** One line for each mutant that the case that states its rule did not kill. */
export const complaint = ({ id, breaks, killer, status, by }: MutantResult): string =>
  `${id}: ${breaks} ${killer} passes${status === 'elsewhere' ? `; ${by} fails` : ', and so does every case of the operation'}`;

export function asTable({ operations, mutants, total, killed, ms }: MutantReport): string {
  const rows = operations.map((row) => `${row.operation.padEnd(22)}${String(row.mutants).padStart(8)}${String(row.killed).padStart(8)}`);
  const alive = mutants.filter(({ status }) => status !== 'killed').map(complaint);
  return [
    `${'operation'.padEnd(22)}${'mutants'.padStart(8)}${'killed'.padStart(8)}`,
    ...rows,
    `${'all'.padEnd(22)}${String(total).padStart(8)}${String(killed).padStart(8)}  in ${(ms / 1000).toFixed(1)} s`,
    ...alive,
    '',
  ].join('\n');
}
