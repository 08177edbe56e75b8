/**
 * Integer arithmetic with exact EFLAGS (Intel SDM volume 1, "EFLAGS Register", and each instruction's page in volume 2).
 * Operands come as the operand functions give them: unsigned for 1 and 2 bytes, int32 for 4. Flags that the manual
 * leaves undefined are computed by the same formula or cleared.
 */
import type { Cpu } from './cpu.js';

export const FLAG = {
  CF: 0x1,
  PF: 0x4,
  AF: 0x10,
  ZF: 0x40,
  SF: 0x80,
  TF: 0x100,
  IF: 0x200,
  DF: 0x400,
  OF: 0x800,
  NT: 0x4000,
  RF: 0x1_0000,
} as const;

/** CF, PF, AF, ZF, SF, OF. */
const STATUS = 0x8d5;

/** Indexed by operand size. */
export const MASK: readonly number[] = [0, 0xff, 0xffff, 0, -1];
export const SIGN: readonly number[] = [0, 0x80, 0x8000, 0, 0x8000_0000 | 0];

/** PF of each byte value: set for an even number of ones. */
const PARITY = Uint8Array.from({ length: 256 }, (_, byte) => {
  let ones = 0;
  for (let bits = byte; bits !== 0; bits &= bits - 1) ones++;
  return ones % 2 === 0 ? FLAG.PF : 0;
});

/** A two-operand operation: sets the flags, returns what is stored in the destination. */
export type Binary = (c: Cpu, a: number, b: number, size: number) => number;
export type Unary = (c: Cpu, a: number, size: number) => number;

/** Sets the status flags from a masked result; `carry` and `overflow` are truth values, `af` holds bit 4. */
function setStatus(c: Cpu, r: number, size: number, carry: number, overflow: number, af: number): void {
  const sign = SIGN[size] as number;
  c.flags =
    (c.flags & ~STATUS) |
    (PARITY[r & 0xff] as number) |
    (r === 0 ? FLAG.ZF : 0) |
    ((r & sign) !== 0 ? FLAG.SF : 0) |
    (carry !== 0 ? FLAG.CF : 0) |
    (overflow !== 0 ? FLAG.OF : 0) |
    (af & FLAG.AF);
}

function addWith(c: Cpu, a: number, b: number, size: number, carry: number): number {
  const sign = SIGN[size] as number;
  const r = (a + b + carry) & (MASK[size] as number);
  setStatus(c, r, size, ((a & b) | ((a | b) & ~r)) & sign, (a ^ r) & (b ^ r) & sign, a ^ b ^ r);
  return r;
}

function subWith(c: Cpu, a: number, b: number, size: number, borrow: number): number {
  const sign = SIGN[size] as number;
  const r = (a - b - borrow) & (MASK[size] as number);
  setStatus(c, r, size, ((~a & b) | ((~a | b) & r)) & sign, (a ^ b) & (a ^ r) & sign, a ^ b ^ r);
  return r;
}

function logic(c: Cpu, r: number, size: number): number {
  setStatus(c, r, size, 0, 0, 0);
  return r;
}

export const add: Binary = (c, a, b, size) => addWith(c, a, b, size, 0);
export const adc: Binary = (c, a, b, size) => addWith(c, a, b, size, c.flags & FLAG.CF);
export const sub: Binary = (c, a, b, size) => subWith(c, a, b, size, 0);
export const sbb: Binary = (c, a, b, size) => subWith(c, a, b, size, c.flags & FLAG.CF);
export const and: Binary = (c, a, b, size) => logic(c, a & b, size);
export const or: Binary = (c, a, b, size) => logic(c, a | b, size);
export const xor: Binary = (c, a, b, size) => logic(c, a ^ b, size);

/** CF stays. */
export const inc: Unary = (c, a, size) => {
  const carry = c.flags & FLAG.CF;
  const r = add(c, a, 1, size);
  c.flags = (c.flags & ~FLAG.CF) | carry;
  return r;
};
/** CF stays. */
export const dec: Unary = (c, a, size) => {
  const carry = c.flags & FLAG.CF;
  const r = sub(c, a, 1, size);
  c.flags = (c.flags & ~FLAG.CF) | carry;
  return r;
};
export const neg: Unary = (c, a, size) => sub(c, 0, a, size);
/** No flags. */
export const not: Unary = (_c, a, size) => ~a & (MASK[size] as number);

// --- shifts and rotates: the count is masked to five bits, and a count of zero changes no flag ------------------------

const setCarryOverflow = (c: Cpu, carry: number, overflow: number): void => {
  c.flags = (c.flags & ~(FLAG.CF | FLAG.OF)) | (carry !== 0 ? FLAG.CF : 0) | (overflow !== 0 ? FLAG.OF : 0);
};

export const shl: Binary = (c, a, b, size) => {
  const count = b & 31;
  if (count === 0) return a;
  const bits = size * 8;
  const r = (a << count) & (MASK[size] as number);
  const carry = count <= bits ? (a >>> (bits - count)) & 1 : 0;
  setStatus(c, r, size, carry, ((r & (SIGN[size] as number)) !== 0 ? 1 : 0) ^ carry, 0);
  return r;
};

export const shr: Binary = (c, a, b, size) => {
  const count = b & 31;
  if (count === 0) return a;
  const unsigned = size === 4 ? a >>> 0 : a;
  const r = (unsigned >>> count) | 0;
  setStatus(c, r, size, (unsigned >>> (count - 1)) & 1, a & (SIGN[size] as number), 0);
  return r;
};

export const sar: Binary = (c, a, b, size) => {
  const count = b & 31;
  if (count === 0) return a;
  const signed = signExtend(a, size);
  const r = (signed >> count) & (MASK[size] as number);
  setStatus(c, r, size, (signed >> (count - 1)) & 1, 0, 0);
  return r;
};

export const rol: Binary = (c, a, b, size) => {
  if ((b & 31) === 0) return a;
  const bits = size * 8;
  const count = b & (bits - 1);
  const unsigned = size === 4 ? a >>> 0 : a;
  // Bytes and words: a multiple of the width rotates to the same value, but still sets the flags.
  const r = ((unsigned << count) | (unsigned >>> (bits - count))) & (MASK[size] as number);
  setCarryOverflow(c, r & 1, ((r & (SIGN[size] as number)) !== 0 ? 1 : 0) ^ (r & 1));
  return r;
};

export const ror: Binary = (c, a, b, size) => {
  if ((b & 31) === 0) return a;
  const bits = size * 8;
  const count = b & (bits - 1);
  const unsigned = size === 4 ? a >>> 0 : a;
  const r = ((unsigned >>> count) | (unsigned << (bits - count))) & (MASK[size] as number);
  const sign = SIGN[size] as number;
  setCarryOverflow(c, r & sign, ((r & sign) !== 0 ? 1 : 0) ^ ((r & (sign >>> 1)) !== 0 ? 1 : 0));
  return r;
};

/** Rotates through carry bit by bit: at most 31 steps, and rare. */
export const rcl: Binary = (c, a, b, size) => {
  const sign = SIGN[size] as number;
  let r = a;
  let carry = c.flags & FLAG.CF;
  for (let count = b & 31; count > 0; count--) {
    const out = (r & sign) !== 0 ? 1 : 0;
    r = ((r << 1) | carry) & (MASK[size] as number);
    carry = out;
  }
  if ((b & 31) !== 0) setCarryOverflow(c, carry, ((r & sign) !== 0 ? 1 : 0) ^ carry);
  return r;
};

export const rcr: Binary = (c, a, b, size) => {
  const sign = SIGN[size] as number;
  let r = a;
  let carry = c.flags & FLAG.CF;
  for (let count = b & 31; count > 0; count--) {
    const out = r & 1;
    r = ((r & (MASK[size] as number)) >>> 1) | (carry !== 0 ? sign : 0);
    carry = out;
  }
  if ((b & 31) !== 0) setCarryOverflow(c, carry, ((r & sign) !== 0 ? 1 : 0) ^ ((r & (sign >>> 1)) !== 0 ? 1 : 0));
  return r;
};

// --- multiplication and division --------------------------------------------------------------------------------------

/** Low dword of the product of two int32; the upper dword is left in `c.productHigh`. */
export function multiply(c: Cpu, a: number, b: number, signed: boolean): number {
  const low = (a & 0xffff) * (b & 0xffff);
  const middle = (a >>> 16) * (b & 0xffff) + (low >>> 16);
  const cross = (a & 0xffff) * (b >>> 16) + (middle & 0xffff);
  const high = (a >>> 16) * (b >>> 16) + (middle >>> 16) + (cross >>> 16);
  c.productHigh = (signed ? high - (a < 0 ? b : 0) - (b < 0 ? a : 0) : high) | 0;
  return Math.imul(a, b);
}

/**
 * Quotient of the unsigned `high:low` by `divisor`, 0 to 2^32 - 1; the remainder is left in `c.remainder`. The caller
 * has checked `high < divisor`: only then does the quotient fit.
 */
export function divide(c: Cpu, high: number, low: number, divisor: number): number {
  let rest = high;
  let quotient = 0;
  for (let bit = 31; bit >= 0; bit--) {
    rest = rest * 2 + ((low >>> bit) & 1);
    quotient *= 2;
    if (rest >= divisor) {
      rest -= divisor;
      quotient++;
    }
  }
  c.remainder = rest;
  return quotient;
}

/** IMUL with two operands: CF and OF tell that the product did not fit. */
export const imul: Binary = (c, a, b, size) => {
  const x = signExtend(a, size);
  const y = signExtend(b, size);
  if (size === 4) {
    const r = Math.imul(x, y);
    const lost = x * y !== r ? 1 : 0;
    setStatus(c, r, size, lost, lost, 0);
    return r;
  }
  const product = Math.imul(x, y);
  const lost = product !== signExtend(product, size) ? 1 : 0;
  const r = product & (MASK[size] as number);
  setStatus(c, r, size, lost, lost, 0);
  return r;
};

/** Flags of one-operand MUL and IMUL: `lost` when the upper half carries information. */
export const setProductFlags = (c: Cpu, low: number, size: number, lost: boolean): void => {
  setStatus(c, low & (MASK[size] as number), size, lost ? 1 : 0, lost ? 1 : 0, 0);
};

export const signExtend = (value: number, size: number): number =>
  size === 1 ? (value << 24) >> 24 : size === 2 ? (value << 16) >> 16 : value | 0;

/** The 16 conditions of Jcc, SETcc and CMOVcc by the low opcode nibble (SDM volume 2, appendix B, "tttn"). */
export function condition(c: Cpu, code: number): boolean {
  const f = c.flags;
  let holds: boolean;
  switch (code >> 1) {
    case 0:
      holds = (f & FLAG.OF) !== 0;
      break;
    case 1:
      holds = (f & FLAG.CF) !== 0;
      break;
    case 2:
      holds = (f & FLAG.ZF) !== 0;
      break;
    case 3:
      holds = (f & (FLAG.CF | FLAG.ZF)) !== 0;
      break;
    case 4:
      holds = (f & FLAG.SF) !== 0;
      break;
    case 5:
      holds = (f & FLAG.PF) !== 0;
      break;
    case 6:
      holds = ((f >> 4) & FLAG.SF) !== (f & FLAG.SF);
      break;
    default:
      holds = (f & FLAG.ZF) !== 0 || ((f >> 4) & FLAG.SF) !== (f & FLAG.SF);
  }
  return holds === ((code & 1) === 0);
}
