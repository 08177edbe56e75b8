/** The checks that cases are written with. A failed one throws; the runner turns that into the case's one-line reason. */
import { hex } from '../core/addresses.js';
import { type ErrorCode, MptError } from '../core/errors.js';

/** Why a case failed. */
export class CheckFailed extends Error {
  override readonly name = 'CheckFailed';
}

export function ok(condition: boolean, what: string): asserts condition {
  if (!condition) throw new CheckFailed(what);
}

const show = (value: unknown): string => (typeof value === 'number' && Number.isInteger(value) ? hex(value) : String(value));

/** Same value (`Object.is`). */
export function equal(actual: unknown, expected: unknown, what: string): void {
  if (!Object.is(actual, expected)) throw new CheckFailed(`${what}: got ${show(actual)}, expected ${show(expected)}`);
}

/** Same bytes; the message names the first that differs. */
export function sameBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  equal(actual.length, expected.length, `${what}: length`);
  for (let i = 0; i < expected.length; i++)
    if (actual[i] !== expected[i])
      throw new CheckFailed(`${what}: byte ${hex(i)} is ${hex(actual[i] as number)}, expected ${hex(expected[i] as number)}`);
}

/** Fields of an MptError that a case states. */
export interface ErrorFields {
  readonly op?: string;
  readonly backend?: string;
  readonly address?: number;
  readonly size?: number;
  readonly limit?: number;
}

/** `run` throws an MptError of this code (undefined: of any code) with these fields and a one-line message. */
export function refuses(code: ErrorCode | undefined, run: () => unknown, fields: ErrorFields = {}): MptError {
  let thrown: unknown;
  let result: unknown;
  try {
    result = run();
  } catch (error) {
    thrown = error;
  }
  if (thrown === undefined) throw new CheckFailed(`${code ?? 'an MptError'} was due, but the call returned ${show(result)}`);
  if (!(thrown instanceof MptError))
    throw new CheckFailed(
      `${code ?? 'an MptError'} was due, but this was thrown: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
    );
  if (code !== undefined && thrown.code !== code) throw new CheckFailed(`${code} was due, but it is ${thrown.code}: ${thrown.message}`);
  for (const key of Object.keys(fields) as (keyof ErrorFields)[]) equal(thrown[key], fields[key], `error field ${key}`);
  ok(!thrown.message.includes('\n') && thrown.message.length > 0, `the message is not one line: ${JSON.stringify(thrown.message)}`);
  return thrown;
}

/** Reproducible bytes; another seed gives other bytes at every position. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 37 + (i >> 8) * 11 + seed * 101 + 1) & 0xff;
  return bytes;
}

/** Little-endian number of 1, 2 or 4 bytes at `offset`. */
export function word(bytes: Uint8Array, size: number, offset = 0): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = value * 256 + (bytes[offset + i] as number);
  return value;
}
