/** Exchanges, compare-and-exchange and the bit instructions. LOCK needs nothing: there is one vCPU. */
import { add, FLAG, sub } from './alu.js';
import { type Cpu, REG } from './cpu.js';
import type { Handler, Operand, Width } from './forms.js';

export const exchange =
  (width: Width, first: Operand, second: Operand): Handler =>
  (c) => {
    const size = width === 'b' ? 1 : c.size;
    const a = first.read(c, size);
    const b = second.read(c, size);
    second.write(c, size, a);
    first.write(c, size, b);
  };

export const xadd =
  (width: Width): Handler =>
  (c) => {
    const size = width === 'b' ? 1 : c.size;
    const old = c.readRm(size);
    const sum = add(c, old, c.readRegister(c.reg, size), size);
    c.writeRegister(c.reg, size, old);
    c.writeRm(size, sum);
  };

/** The destination is written in either case (SDM volume 2, CMPXCHG). */
export const cmpxchg =
  (width: Width): Handler =>
  (c) => {
    const size = width === 'b' ? 1 : c.size;
    const old = c.readRm(size);
    sub(c, c.readRegister(REG.EAX, size), old, size);
    if ((c.flags & FLAG.ZF) !== 0) c.writeRm(size, c.readRegister(c.reg, size));
    else {
      c.writeRm(size, old);
      c.writeRegister(REG.EAX, size, old);
    }
  };

export const bswap: Handler = (c) => {
  const register = c.opcode & 7;
  const value = c.r32[register] as number;
  c.r32[register] = (value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24);
};

type BitOperation = 'bt' | 'bts' | 'btr' | 'btc';

const CHANGE: Readonly<Record<BitOperation, (value: number, bit: number) => number>> = {
  bt: (value) => value,
  bts: (value, bit) => value | bit,
  btr: (value, bit) => value & ~bit,
  btc: (value, bit) => value ^ bit,
};

/** CF is the bit as it was. */
function apply(c: Cpu, operation: BitOperation, index: number): void {
  const bit = 1 << index;
  const value = c.readRm(c.size);
  c.flags = (c.flags & ~FLAG.CF) | ((value & bit) !== 0 ? FLAG.CF : 0);
  if (operation !== 'bt') c.writeRm(c.size, CHANGE[operation](value, bit));
}

/** Bit number in a register: with a memory operand it reaches beyond the addressed word, either way. */
export const bitTest =
  (operation: BitOperation): Handler =>
  (c) => {
    const bits = c.size * 8;
    const index = c.size === 4 ? c.readRegister(c.reg, 4) : (c.readRegister(c.reg, 2) << 16) >> 16;
    if (c.mod !== 3) {
      c.offset = (c.offset + Math.floor(index / bits) * c.size) | 0;
      if (!c.address32) c.offset &= 0xffff;
    }
    apply(c, operation, index & (bits - 1));
  };

const immediate =
  (operation: BitOperation): Handler =>
  (c) =>
    apply(c, operation, c.fetch8() & (c.size * 8 - 1));

/** 0F BA: the bit number is an immediate; the reg field chooses. */
export const bitGroup: readonly (Handler | undefined)[] = [
  undefined,
  undefined,
  undefined,
  undefined,
  immediate('bt'),
  immediate('bts'),
  immediate('btr'),
  immediate('btc'),
];

/** BSF, BSR: ZF for a zero source, whose destination stays as it is. */
export const bitScan =
  (direction: 'forward' | 'reverse'): Handler =>
  (c) => {
    const value = c.readRm(c.size);
    if (value === 0) {
      c.flags |= FLAG.ZF;
      return;
    }
    c.flags &= ~FLAG.ZF;
    const bit = direction === 'forward' ? 31 - Math.clz32(value & -value) : 31 - Math.clz32(value);
    c.writeRegister(c.reg, c.size, bit);
  };
