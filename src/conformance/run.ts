/** Runs the cases against one backend. */
import { type Capability, has } from '../core/capabilities.js';
import type { MptBackend } from '../core/mpt-backend.js';
import type { ConformanceCase } from './case.js';
import { CASES } from './cases/index.js';
import { type BackendFactory, CASE_TIMEOUT_MS, CaseContext } from './context.js';

/** `known`: it fails, as the expectations say. */
export type CaseStatus = 'pass' | 'fail' | 'skip' | 'known';

export interface CaseResult {
  readonly id: string;
  readonly status: CaseStatus;
  /** One line: why it failed or was skipped; empty when it passed. */
  readonly reason: string;
  /** Milliseconds that the case took, its set-up and release included. */
  readonly ms: number;
}

export interface ConformanceReport {
  readonly backend: string;
  readonly version: string;
  /** What it declares. */
  readonly capabilities: MptBackend['capabilities'];
  readonly cases: readonly CaseResult[];
  /** `known` only where expectations were given. */
  readonly totals: { readonly pass: number; readonly fail: number; readonly skip: number; readonly known?: number };
}

export interface ConformanceOptions extends BackendFactory {
  /** Name of the backend in reports. */
  readonly name: string;
  /** Its version; default: what the backend tells. */
  readonly version?: string;
  /** Runs only the cases whose id begins with this. */
  readonly filter?: string;
  /** The cases; default: the suite's. For a porter's own cases in the same form. */
  readonly cases?: readonly ConformanceCase[];
  /** Called before each case. */
  readonly onCase?: (id: string) => void;
  /** Called after each case with how many are done and how many there are. */
  readonly onResult?: (result: CaseResult, done: number, total: number) => void;
  /** Asked before and after each case; true skips the rest, and a case that it interrupted, with the reason `stopped`. */
  readonly stop?: () => boolean;
}

/** Characters of a reason that are kept. */
const REASON_MAX = 500;

/** The cases that `filter` selects. */
export const selectCases = (filter = '', cases: readonly ConformanceCase[] = CASES): ConformanceCase[] =>
  cases.filter((test) => test.id.startsWith(filter));

/** What of a backend decides which cases apply: read once, before the first case. */
export interface BackendFacts {
  readonly name: string;
  readonly version: string;
  readonly capabilities: MptBackend['capabilities'];
}

/** Opens a backend to learn its version and capabilities, and closes it. @throws what opening throws */
export function readFacts(options: ConformanceOptions): BackendFacts {
  const backend = options.open();
  try {
    return { name: options.name, version: options.version ?? backend.version, capabilities: backend.capabilities };
  } finally {
    backend.close();
  }
}

/** Why a case does not apply to the backend, or undefined when it does. */
export function skipReason(test: ConformanceCase, options: ConformanceOptions, { name, capabilities }: BackendFacts): string | undefined {
  const needs: Capability[] = [...(test.needs ?? [])];
  if (test.vm !== false) needs.push('machine');
  if (test.level !== undefined) needs.push('pageTrack');
  for (const capability of needs) if (!has(capabilities, capability)) return `${name} declares no ${capability}`;
  const any = test.needsAny;
  if (any !== undefined && !any.some((capability) => has(capabilities, capability))) return `${name} declares no ${any.join(' and no ')}`;
  if (test.level !== undefined && capabilities.pageTrack !== test.level && options.pageTrackLevels?.includes(test.level) !== true)
    return `${name} declares pageTrack level ${capabilities.pageTrack}, not ${test.level}`;
  if (test.pinLimit === true && options.noPinLimit === true) return `${name} is opened without a pin limit`;
  return undefined;
}

/** Runs one case. Never throws. */
export function runCase(test: ConformanceCase, options: ConformanceOptions, facts: BackendFacts): CaseResult {
  const { id } = test;
  const skip = skipReason(test, options, facts);
  if (skip !== undefined) return { id, status: 'skip', reason: skip, ms: 0 };
  const start = performance.now();
  const failure = failureOf(test, atLevel(test, options, facts));
  const ms = Math.round((performance.now() - start) * 1000) / 1000;
  const limit = options.caseTimeoutMs ?? CASE_TIMEOUT_MS;
  const reason = failure ?? (ms > limit ? `it passed, but took ${Math.ceil(ms)} ms; the limit is ${limit} ms` : undefined);
  return { id, status: reason === undefined ? 'pass' : 'fail', reason: reason ?? '', ms };
}

/** A factory whose backends have the level that the case is about. */
function atLevel(test: ConformanceCase, options: ConformanceOptions, { capabilities }: BackendFacts): BackendFactory {
  const { level: pageTrack } = test;
  if (pageTrack === undefined || pageTrack === capabilities.pageTrack) return options;
  return { ...options, open: (asked) => options.open({ ...asked, pageTrack }) };
}

function failureOf(test: ConformanceCase, factory: BackendFactory): string | undefined {
  const ctx = new CaseContext(factory);
  let reason: string | undefined;
  try {
    test.run(ctx);
  } catch (error) {
    reason = oneLine(error);
  }
  try {
    ctx.close();
  } catch (error) {
    reason ??= `releasing the case's objects failed: ${oneLine(error)}`;
  }
  return reason;
}

const oneLine = (error: unknown): string => {
  const text = (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, ' ').trim();
  return (text === '' ? 'an error without a message' : text).slice(0, REASON_MAX);
};

/**
 * Runs the suite. Cases run one after another on the calling thread, each with a backend of its own.
 * @throws what the factory throws when the backend cannot be opened at all; failing cases are reported, not thrown
 */
export function runConformance(options: ConformanceOptions): ConformanceReport {
  const facts = readFacts(options);
  const cases: CaseResult[] = [];
  const totals = { pass: 0, fail: 0, skip: 0 };
  const selected = selectCases(options.filter, options.cases);
  const stopped = (): boolean => options.stop?.() === true;
  for (const test of selected) {
    options.onCase?.(test.id);
    let result: CaseResult | undefined = stopped() ? undefined : runCase(test, options, facts);
    if (result === undefined || (result.status === 'fail' && stopped())) result = { id: test.id, status: 'skip', reason: 'stopped', ms: 0 };
    cases.push(result);
    if (result.status !== 'known') totals[result.status]++;
    options.onResult?.(result, cases.length, selected.length);
  }
  return { backend: facts.name, version: facts.version, capabilities: facts.capabilities, cases, totals };
}
