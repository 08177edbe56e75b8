/** One-operand multiplication and division, and the sign extensions of the accumulator. */
import { divide as divideWide, MASK, multiply, setProductFlags, signExtend } from './alu.js';
import { type Cpu, REG, VECTOR } from './cpu.js';
import type { Handler, Width } from './forms.js';

/** AX = AL * byte; DX:AX, EDX:EAX = accumulator * operand. CF and OF: the upper half is not just an extension. */
const wide =
  (width: Width, signed: boolean): Handler =>
  (c) => {
    const size = width === 'b' ? 1 : c.size;
    const a = c.readRegister(REG.EAX, size);
    const b = c.readRm(size);
    if (size === 4) {
      const low = multiply(c, a, b, signed);
      c.r32[REG.EAX] = low;
      c.r32[REG.EDX] = c.productHigh;
      setProductFlags(c, low, 4, c.productHigh !== (signed ? low >> 31 : 0));
      return;
    }
    const product = signed ? Math.imul(signExtend(a, size), signExtend(b, size)) : Math.imul(a, b);
    if (size === 1) c.writeRegister(REG.EAX, 2, product);
    else {
      c.writeRegister(REG.EAX, 2, product);
      c.writeRegister(REG.EDX, 2, product >>> 16);
    }
    const low = product & (MASK[size] as number);
    setProductFlags(c, low, size, signed ? product !== signExtend(product, size) : product !== low);
  };

export const mul = (width: Width): Handler => wide(width, false);
export const imulWide = (width: Width): Handler => wide(width, true);

/** DIV and IDIV. A zero divisor or a quotient that does not fit is a divide error. */
export const divide =
  (width: Width, signed: boolean): Handler =>
  (c) => {
    const size = width === 'b' ? 1 : c.size;
    const operand = c.readRm(size);
    if (operand === 0) throw c.exception(VECTOR.DIVIDE);
    if (size === 4) {
      if (signed) divideSigned32(c, operand);
      else divideUnsigned32(c, operand >>> 0);
      return;
    }
    const bits = size * 8;
    const dividend = size === 1 ? c.readRegister(REG.EAX, 2) : c.readRegister(REG.EAX, 2) + c.readRegister(REG.EDX, 2) * 0x1_0000;
    const n = signed ? signExtend(dividend | 0, size * 2) : dividend;
    const d = signed ? signExtend(operand, size) : operand;
    const quotient = Math.trunc(n / d);
    const limit = 2 ** bits;
    if (signed ? quotient >= limit / 2 || quotient < -limit / 2 : quotient >= limit) throw c.exception(VECTOR.DIVIDE);
    setResults(c, size, quotient, n - quotient * d);
  };

function setResults(c: Cpu, size: number, quotient: number, remainder: number): void {
  c.writeRegister(REG.EAX, size, quotient);
  // AH for bytes.
  if (size === 1) c.writeRegister(4, 1, remainder);
  else c.writeRegister(REG.EDX, size, remainder);
}

function divideUnsigned32(c: Cpu, divisor: number): void {
  const high = (c.r32[REG.EDX] as number) >>> 0;
  if (high >= divisor) throw c.exception(VECTOR.DIVIDE);
  const quotient = divideWide(c, high, c.r32[REG.EAX] as number, divisor);
  setResults(c, 4, quotient, c.remainder);
}

/** By magnitudes: the quotient is negative when the signs differ, the remainder has the dividend's sign. */
function divideSigned32(c: Cpu, divisor: number): void {
  let low = c.r32[REG.EAX] as number;
  let high = c.r32[REG.EDX] as number;
  const negative = high < 0;
  if (negative) {
    high = ~high + (low === 0 ? 1 : 0);
    low = -low | 0;
  }
  const magnitude = Math.abs(divisor);
  if (high >>> 0 >= magnitude) throw c.exception(VECTOR.DIVIDE);
  const quotient = divideWide(c, high >>> 0, low, magnitude);
  const sameSign = negative === divisor < 0;
  if (quotient > (sameSign ? 0x7fff_ffff : 0x8000_0000)) throw c.exception(VECTOR.DIVIDE);
  setResults(c, 4, sameSign ? quotient : -quotient, negative ? -c.remainder : c.remainder);
}

/** CBW, CWDE. */
export const widen: Handler = (c) => {
  c.writeRegister(REG.EAX, c.size, signExtend(c.readRegister(REG.EAX, c.size / 2), c.size / 2));
};

/** CWD, CDQ. */
export const widenDouble: Handler = (c) => {
  c.writeRegister(REG.EDX, c.size, signExtend(c.readRegister(REG.EAX, c.size), c.size) < 0 ? -1 : 0);
};
