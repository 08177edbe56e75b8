/** MI_MATH: the command streamer's ALU on its sixteen 64-bit registers (Broadwell PRM, volume 2a, "MI_MATH"). */
import { badLength, type Execute, fault } from './command.js';
import type { CommandStreamer } from './streamer.js';

/** CS_GPR, low and high dword each. */
const GPR = 0x600;
const GPRS = 16;
/** Operands besides the registers. */
const OPERAND = { SRCA: 0x20, SRCB: 0x21, ACCU: 0x31, ZF: 0x32, CF: 0x33 } as const;
const OPCODE = {
  NOOP: 0x000,
  LOAD: 0x080,
  LOADINV: 0x480,
  LOAD0: 0x081,
  LOAD1: 0x481,
  ADD: 0x100,
  SUB: 0x101,
  AND: 0x102,
  OR: 0x103,
  XOR: 0x104,
  STORE: 0x180,
  STOREINV: 0x580,
} as const;

/** The ALU, as dword pairs; flags as all ones or zero. It keeps nothing between commands. */
const alu = { a: [0, 0], b: [0, 0], accu: [0, 0], zero: 0, carry: 0 };
type Pair = readonly [number, number] | number[];

const isRegister = (operand: number): boolean => operand < GPRS;

function read({ parts, engine }: CommandStreamer, operand: number): Pair | undefined {
  if (isRegister(operand)) {
    const at = engine.base + GPR + operand * 8;
    return [parts.registers.get(at), parts.registers.get(at + 4)];
  }
  switch (operand) {
    case OPERAND.SRCA:
      return alu.a;
    case OPERAND.SRCB:
      return alu.b;
    case OPERAND.ACCU:
      return alu.accu;
    case OPERAND.ZF:
      return [alu.zero, alu.zero];
    case OPERAND.CF:
      return [alu.carry, alu.carry];
    default:
      return undefined;
  }
}

function write({ parts, engine }: CommandStreamer, operand: number, [low, high]: Pair): boolean {
  const pair = [(low as number) >>> 0, (high as number) >>> 0];
  if (isRegister(operand)) {
    const at = engine.base + GPR + operand * 8;
    parts.registers.set(at, pair[0] as number);
    parts.registers.set(at + 4, pair[1] as number);
  } else if (operand === OPERAND.SRCA) alu.a = pair;
  else if (operand === OPERAND.SRCB) alu.b = pair;
  else return false;
  return true;
}

const inverted = ([low, high]: Pair): Pair => [~(low as number), ~(high as number)];

function compute(opcode: number): boolean {
  const [al, ah] = alu.a as [number, number];
  const [bl, bh] = alu.b as [number, number];
  let carry = 0;
  if (opcode === OPCODE.ADD || opcode === OPCODE.SUB) {
    const low = opcode === OPCODE.ADD ? al + bl : al - bl;
    const high = (opcode === OPCODE.ADD ? ah + bh : ah - bh) + Math.floor(low / 2 ** 32);
    alu.accu = [low >>> 0, high >>> 0];
    // The borrow of a subtraction is its carry.
    carry = high < 0 || high >= 2 ** 32 ? 0xffff_ffff : 0;
  } else if (opcode === OPCODE.AND) alu.accu = [(al & bl) >>> 0, (ah & bh) >>> 0];
  else if (opcode === OPCODE.OR) alu.accu = [(al | bl) >>> 0, (ah | bh) >>> 0];
  else if (opcode === OPCODE.XOR) alu.accu = [(al ^ bl) >>> 0, (ah ^ bh) >>> 0];
  else return false;
  alu.carry = carry;
  alu.zero = alu.accu[0] === 0 && alu.accu[1] === 0 ? 0xffff_ffff : 0;
  return true;
}

/** One instruction: opcode in bits 31:20, operands in 19:10 and 9:0. @returns whether there is such a one */
function instruct(streamer: CommandStreamer, instruction: number): boolean {
  const opcode = instruction >>> 20;
  const [first, second] = [(instruction >>> 10) & 0x3ff, instruction & 0x3ff];
  switch (opcode) {
    case OPCODE.NOOP:
      return true;
    case OPCODE.LOAD0:
      return !isRegister(first) && write(streamer, first, [0, 0]);
    case OPCODE.LOAD1:
      return !isRegister(first) && write(streamer, first, [1, 0]);
    case OPCODE.LOAD:
    case OPCODE.LOADINV: {
      const value = isRegister(second) ? read(streamer, second) : undefined;
      return value !== undefined && !isRegister(first) && write(streamer, first, opcode === OPCODE.LOAD ? value : inverted(value));
    }
    case OPCODE.STORE:
    case OPCODE.STOREINV: {
      const value = isRegister(second) ? undefined : read(streamer, second);
      return value !== undefined && isRegister(first) && write(streamer, first, opcode === OPCODE.STORE ? value : inverted(value));
    }
    default:
      return compute(opcode);
  }
}

/** MI_MATH: instructions, a dword each. */
export const math: Execute = (streamer, length) => {
  if (length < 2) return badLength(length);
  alu.a = [0, 0];
  alu.b = [0, 0];
  alu.accu = [0, 0];
  alu.zero = 0;
  alu.carry = 0;
  for (let i = 1; i < length; i++) {
    const instruction = streamer.command[i] as number;
    if (!instruct(streamer, instruction)) return fault(`the instruction 0x${instruction.toString(16).padStart(8, '0')} does not exist`);
  }
  return undefined;
};
