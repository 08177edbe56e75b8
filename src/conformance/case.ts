/** A rule of the MPT contract and the function that checks it. */
import type { Capability, PageTrackLevel } from '../core/capabilities.js';
import type { MptOperationName } from '../core/mpt.js';
import type { CaseContext } from './context.js';

export interface ConformanceCase {
  /** `mpt/<group>/<name>`, kebab-case, stable: expectations and reports refer to it. */
  readonly id: string;
  /** The rule in one sentence. */
  readonly rule: string;
  /** Operations of the table that the rule is about; none for rules of machines and guest accesses. */
  readonly operations: readonly MptOperationName[];
  /** Capabilities without which the rule has no meaning. The case is skipped when one is absent. */
  readonly needs?: readonly Capability[];
  /** The same, but one of these is enough. */
  readonly needsAny?: readonly Capability[];
  /** Level of page track that the rule is about. */
  readonly level?: PageTrackLevel;
  /** False: the backend alone is enough. Default true: the suite creates VMs (capability `machine`). */
  readonly vm?: boolean;
  /** The guest agent runs. */
  readonly guest?: true;
  /** The factory must honour `pinLimitPages`. */
  readonly pinLimit?: true;
  /** Throws when the rule is broken. */
  run(ctx: CaseContext): void;
}

/** A case before its group gives it an id. */
export interface CaseSpec extends Omit<ConformanceCase, 'id' | 'operations'> {
  /** Last part of the id. */
  readonly name: string;
  /** Default: the group's. */
  readonly operations?: readonly MptOperationName[];
}

/** What all cases of a group share; a case's own fields win. */
export type GroupDefaults = Omit<ConformanceCase, 'id' | 'rule' | 'run'>;

/** Makes the cases of one group. */
export const group = (name: string, defaults: GroupDefaults, specs: readonly CaseSpec[]): ConformanceCase[] =>
  specs.map(({ name: last, ...spec }) => ({ ...defaults, ...spec, id: `mpt/${name}/${last}` }));

/** Values that are no guest-physical or host address, each named. All are refused as INVALID_ADDRESS. */
export const BAD_ADDRESSES: readonly (readonly [string, number])[] = [
  ['nan', Number.NaN],
  ['infinity', Number.POSITIVE_INFINITY],
  ['fraction', 4096.5],
  ['negative', -4096],
  ['at-2-52', 2 ** 52],
  ['at-2-64', 2 ** 64],
];

/** Values that are no frame number, each named. All are refused as INVALID_ADDRESS. */
export const BAD_FRAMES: readonly (readonly [string, number])[] = [
  ['nan', Number.NaN],
  ['infinity', Number.POSITIVE_INFINITY],
  ['fraction', 16.5],
  ['negative', -1],
  ['at-2-40', 2 ** 40],
  ['at-2-64', 2 ** 64],
];

/** Widths of an access, in bytes. */
export const SIZES = [1, 2, 4, 8] as const;
export type Size = (typeof SIZES)[number];
