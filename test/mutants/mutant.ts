/** A mutant: the simulation with one rule broken, and the case that must notice. Running one, and all. */
import { SimBackend } from '../../src/backends/sim/backend.js';
import {
  type BackendFacts,
  CASES,
  type CaseResult,
  type ConformanceCase,
  type ConformanceOptions,
  readFacts,
  runCase,
} from '../../src/conformance/index.js';
import type { MptOperationName } from '../../src/core/mpt.js';
import type { Patch } from './patch.js';

export interface Mutant {
  /** `<operation>/<name>`, kebab-case, stable. */
  readonly id: string;
  readonly operation: MptOperationName;
  /** What is broken, in one sentence. */
  readonly breaks: string;
  /** Id of the case that states the rule. */
  readonly killer: string;
  readonly patch: Patch;
}

/** A row of a table: name, what is broken, killer without `mpt/`, patch. */
export type MutantRow = readonly [name: string, breaks: string, killer: string, patch: Patch];

/** Makes the mutants of one operation. */
export const mutantsOf = (operation: MptOperationName, rows: readonly MutantRow[]): Mutant[] =>
  rows.map(([name, breaks, killer, patch]) => ({
    id: `${operation.replaceAll('_', '-')}/${name}`,
    operation,
    breaks,
    killer: `mpt/${killer}`,
    patch,
  }));

export interface MutantResult {
  readonly id: string;
  readonly operation: MptOperationName;
  readonly breaks: string;
  readonly killer: string;
  /** `elsewhere`: the case that states the rule passes, another of the operation fails. */
  readonly status: 'killed' | 'elsewhere' | 'survived';
  /** Case that failed, and its reason. */
  readonly by: string;
  readonly reason: string;
  readonly ms: number;
}

/** What a guest command may take: a mutant that loses an interrupt must not cost seconds. */
const LIMIT_MS = 150;

/** What a case may take where nothing is broken. */
const CONTROL_LIMIT_MS = 20_000;

const clean: ConformanceOptions = {
  name: 'sim',
  pageTrackLevels: ['trap', 'sync'],
  open: (options = {}) => new SimBackend(options),
};
let facts: BackendFacts | undefined;

const run = (test: ConformanceCase, patch: Patch, caseTimeoutMs = LIMIT_MS): CaseResult => {
  facts ??= readFacts(clean);
  const open: ConformanceOptions['open'] = (options = {}) => {
    const backend = new SimBackend(options);
    patch(backend);
    return backend;
  };
  return runCase(test, { ...clean, caseTimeoutMs, open }, facts);
};

/** Runs the case on the simulation as it is. */
export const control = (id: string): CaseResult => run(caseOf(id), () => undefined, CONTROL_LIMIT_MS);

function caseOf(id: string): ConformanceCase {
  const found = CASES.find((test) => test.id === id);
  if (found === undefined) throw new Error(`no conformance case is called '${id}'`);
  return found;
}

/** Runs the case that states the rule; only when that passes, the other cases of the operation. */
export function runMutant({ id, operation, breaks, killer, patch }: Mutant): MutantResult {
  const start = performance.now();
  const others = CASES.filter((test) => test.id !== killer && (test.operations as readonly string[]).includes(operation));
  let failed: CaseResult | undefined;
  for (const test of [caseOf(killer), ...others]) {
    const result = run(test, patch);
    // A slow machine breaks no rule.
    if (result.status !== 'fail' || result.reason.startsWith('it passed, but took')) continue;
    failed = result;
    break;
  }
  const status = failed === undefined ? 'survived' : failed.id === killer ? 'killed' : 'elsewhere';
  const ms = Math.round(performance.now() - start);
  return { id, operation, breaks, killer, status, by: failed?.id ?? '', reason: failed?.reason ?? '', ms };
}
