/** Settings of vGPUs: `name=value` from a command line, a configuration or an attribute, checked by a table. */
import { MptError } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import { E } from './errno.js';

export type SettingValue = number | string | boolean;

export interface SettingSpec {
  readonly name: string;
  /** What it is, with unit and range, in one clause. */
  readonly description: string;
  /** Can be changed while the vGPU exists. */
  readonly live: boolean;
  /** @returns undefined for what is no value */
  parse(text: string): SettingValue | undefined;
}

/** A whole decimal number in a range, as attributes take it: a sign and digits, nothing else. */
export const wholeNumber =
  (min: number, max: number) =>
  (text: string): number | undefined => {
    if (!/^[+-]?\d{1,15}$/.test(text)) return undefined;
    const value = Number(text);
    return value >= min && value <= max ? value : undefined;
  };

/** As the kernel's kstrtobool takes it. */
export const yesOrNo = (text: string): boolean | undefined =>
  /^(1|y|yes|on|true)$/i.test(text) ? true : /^(0|n|no|off|false)$/i.test(text) ? false : undefined;

const GROUP = /^[\w.-]{0,64}$/;

/** Nice values of setpriority(2). */
export const PRIORITY = { MIN: -20, DEFAULT: 0, MAX: 19 } as const;
export const WEIGHT = { MIN: 1, MAX: 256 } as const;
/** AcrnGT's domain ids are 16 bits wide; 0 is the service VM. */
export const VM = { MIN: 1, MAX: 65_535 } as const;

/** What every vGPU has. */
export const COMMON_SETTINGS: readonly SettingSpec[] = [
  {
    name: 'priority',
    description: `nice value of its device thread, ${PRIORITY.MIN} (first) to ${PRIORITY.MAX}`,
    live: true,
    parse: wholeNumber(PRIORITY.MIN, PRIORITY.MAX),
  },
  {
    name: 'weight',
    description: `share of engine time, ${WEIGHT.MIN} to ${WEIGHT.MAX}`,
    live: true,
    parse: wholeNumber(WEIGHT.MIN, WEIGHT.MAX),
  },
  {
    name: 'group',
    description: 'name of its group, at most 64 of A-Z a-z 0-9 _ . -; empty for none',
    live: true,
    parse: (text) => (GROUP.test(text) ? text : undefined),
  },
  { name: 'vm', description: `number of the VM that it is for, ${VM.MIN} to ${VM.MAX}`, live: false, parse: wholeNumber(VM.MIN, VM.MAX) },
  { name: 'online', description: 'reachable: 1 or 0', live: true, parse: yesOrNo },
  { name: 'foreground', description: "shown by its GPU's own display: 1 or 0", live: true, parse: yesOrNo },
];

/** @throws MptError INVALID_ARGUMENT: no such setting, or no value of it */
export function parseSetting(specs: readonly SettingSpec[], name: string, text: string): SettingValue {
  const spec = specs.find((candidate) => candidate.name === name);
  if (spec === undefined) {
    const names = specs.map((candidate) => candidate.name);
    const near = nearestName(name, names);
    throw new MptError('INVALID_ARGUMENT', `no setting is named '${name.slice(0, 64)}'`, {
      op: 'set',
      errno: E.INVAL,
      hint: `${near === undefined ? '' : `did you mean ${near}? `}settings: ${names.join(', ')}`,
    });
  }
  const value = spec.parse(text);
  if (value === undefined)
    throw new MptError('INVALID_ARGUMENT', `${name} cannot be '${text.slice(0, 64)}'`, {
      op: 'set',
      errno: E.INVAL,
      hint: spec.description,
    });
  return value;
}
