/** Checks of values that both directions make. */
import { MptError, type MptErrorDetails } from '../../errors.js';

/** Refuses a state. @param op `save_vgpu` finds a defect of ours, `restore_vgpu` a bad document */
export const refusal = (op: 'save_vgpu' | 'restore_vgpu', what: string, details: MptErrorDetails = {}): MptError =>
  new MptError(op === 'save_vgpu' ? 'INTERNAL' : 'BAD_STATE', what, { op, ...details });

/** What is wrong with a number, or undefined. */
export function numberFault(value: number, max: number, min: number, whole: boolean): string | undefined {
  if (whole && !Number.isSafeInteger(value)) return `${value} is no whole number`;
  return value >= min && value <= max ? undefined : `${value} is not in ${min}..${max}`;
}

/** One line for people: no control characters, which would be commands to a terminal. */
export const isLine = (text: string): boolean => !/\p{Cc}/u.test(text);
