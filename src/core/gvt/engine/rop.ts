/** Ternary raster operations: the 8-bit code is the truth table of pattern, source and destination bits (P<<2 | S<<1 | D). */

export const ROP = { SRCCOPY: 0xcc, PATCOPY: 0xf0 } as const;

/** True when the result depends on the destination. */
export const usesDestination = (code: number): boolean => (((code >> 1) ^ code) & 0x55) !== 0;
/** True when it depends on the source. */
export const usesSource = (code: number): boolean => (((code >> 2) ^ code) & 0x33) !== 0;

/** An operation with its pattern: the result is `one ^ (d & D) ^ (s & S) ^ (sd & S & D)`, 32 pixels' bits at a time. */
export interface CompiledRop {
  readonly one: number;
  readonly d: number;
  readonly s: number;
  readonly sd: number;
}

/**
 * Turns the truth table into the exclusive-or of products (its algebraic normal form, by the Moebius transform), with
 * the pattern, which is the same for all dwords of a row, multiplied in.
 * @param pattern repeated to 32 bits
 */
export function compileRop(code: number, pattern: number): CompiledRop {
  let form = code & 0xff;
  form ^= (form & 0x55) << 1;
  form ^= (form & 0x33) << 2;
  form ^= (form & 0x0f) << 4;
  const product = (index: number): number => -((form >> index) & 1) ^ (-((form >> (index | 4)) & 1) & pattern);
  return { one: product(0), d: product(1), s: product(2), sd: product(3) };
}
