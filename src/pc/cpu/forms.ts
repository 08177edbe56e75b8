/**
 * Operand forms: how the rows of the opcode tables name where an instruction's operands are, in the letters of the
 * SDM's opcode map (volume 2, appendix A.2).
 */
import type { Binary, Unary } from './alu.js';
import { type Cpu, REG, SEG } from './cpu.js';

export type Handler = (c: Cpu) => void;

export interface Operand {
  read(c: Cpu, size: number): number;
  write(c: Cpu, size: number, value: number): void;
}

const readOnly = (): never => {
  throw new TypeError('this operand form is read-only');
};

/** Register or memory named by ModRM. */
export const E: Operand = { read: (c, size) => c.readRm(size), write: (c, size, value) => c.writeRm(size, value) };
/** Register named by ModRM's reg field. */
export const G: Operand = {
  read: (c, size) => c.readRegister(c.reg, size),
  write: (c, size, value) => c.writeRegister(c.reg, size, value),
};
/** Register named by the opcode's low three bits. */
export const Z: Operand = {
  read: (c, size) => c.readRegister(c.opcode & 7, size),
  write: (c, size, value) => c.writeRegister(c.opcode & 7, size, value),
};
/** AL, AX or EAX. */
export const A: Operand = {
  read: (c, size) => c.readRegister(REG.EAX, size),
  write: (c, size, value) => c.writeRegister(REG.EAX, size, value),
};
/** Immediate of the operand size. */
export const I: Operand = { read: (c, size) => c.fetch(size), write: readOnly };
/** Immediate byte, sign-extended to the operand size. */
export const Is: Operand = {
  read: (c, size) => {
    const value = c.fetch8s();
    return size === 4 ? value : size === 2 ? value & 0xffff : value & 0xff;
  },
  write: readOnly,
};
/** Immediate byte as a shift count. */
export const Ib: Operand = { read: (c) => c.fetch8(), write: readOnly };
/** CL as a shift count. */
export const CL: Operand = { read: (c) => c.readRegister(REG.ECX, 1), write: readOnly };
/** The constant 1. */
export const ONE: Operand = { read: () => 1, write: readOnly };

/** Memory at an offset that follows the opcode (MOV's A0 to A3). */
export const O: Operand = {
  read: (c, size) => c.bus.load(moffs(c), size),
  write: (c, size, value) => c.bus.store(moffs(c), size, value),
};

function moffs(c: Cpu): number {
  const offset = c.address32 ? c.fetch32() : c.fetch16();
  return ((c.base[c.segment >= 0 ? c.segment : SEG.DS] as number) + offset) >>> 0;
}

/** Operand size of a form: 1 for `b`, else 2 or 4 by mode and prefix. */
export type Width = 'b' | 'v';

/** destination = operation(destination, source) */
export const binary = (operation: Binary, width: Width, destination: Operand, source: Operand): Handler =>
  width === 'b'
    ? (c) => destination.write(c, 1, operation(c, destination.read(c, 1), source.read(c, 1), 1))
    : (c) => destination.write(c, c.size, operation(c, destination.read(c, c.size), source.read(c, c.size), c.size));

/** Flags of operation(destination, source); nothing is stored. */
export const compare = (operation: Binary, width: Width, destination: Operand, source: Operand): Handler =>
  width === 'b'
    ? (c) => {
        operation(c, destination.read(c, 1), source.read(c, 1), 1);
      }
    : (c) => {
        operation(c, destination.read(c, c.size), source.read(c, c.size), c.size);
      };

/** destination = operation(destination) */
export const unary = (operation: Unary, width: Width, destination: Operand): Handler =>
  width === 'b'
    ? (c) => destination.write(c, 1, operation(c, destination.read(c, 1), 1))
    : (c) => destination.write(c, c.size, operation(c, destination.read(c, c.size), c.size));

/** destination = source */
export const move = (width: Width, destination: Operand, source: Operand): Handler =>
  width === 'b' ? (c) => destination.write(c, 1, source.read(c, 1)) : (c) => destination.write(c, c.size, source.read(c, c.size));

/** A ModRM group: the reg field chooses the instruction; holes are unknown. */
export const group = (members: readonly (Handler | undefined)[], unknown: Handler): Handler => {
  const table = Array.from({ length: 8 }, (_, i) => members[i] ?? unknown);
  return (c) => (table[c.reg] as Handler)(c);
};

/** Instructions that have a memory operand only: a register there is an invalid opcode. */
export const memoryOnly =
  (handler: Handler, invalid: Handler): Handler =>
  (c) =>
    c.mod === 3 ? invalid(c) : handler(c);
