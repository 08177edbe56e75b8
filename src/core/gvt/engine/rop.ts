/** Ternary raster operations: the 8-bit code is the truth table of pattern, source and destination bits (P<<2 | S<<1 | D). */

export const ROP = { BLACKNESS: 0x00, NOOP: 0xaa, SRCCOPY: 0xcc, PATCOPY: 0xf0, WHITENESS: 0xff } as const;

/** True when the result depends on the destination. */
export const usesDestination = (code: number): boolean => (((code >> 1) ^ code) & 0x55) !== 0;
/** True when it depends on the source. */
export const usesSource = (code: number): boolean => (((code >> 2) ^ code) & 0x33) !== 0;

/** Applies the operation to all bits of three words. */
export function applyRop(code: number, p: number, s: number, d: number): number {
  let result = 0;
  for (let minterm = 0; minterm < 8; minterm++) {
    if ((code & (1 << minterm)) === 0) continue;
    result |= ((minterm & 4) !== 0 ? p : ~p) & ((minterm & 2) !== 0 ? s : ~s) & ((minterm & 1) !== 0 ? d : ~d);
  }
  return result >>> 0;
}
