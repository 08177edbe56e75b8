/** Instructions that work on the stack: frames, calls and returns, PUSHA and POPA, segment registers, LOOP. */
import { FLAG } from './alu.js';
import { type Cpu, REG, SEG } from './cpu.js';
import type { Handler } from './forms.js';
import { farJump, loadSegment } from './system.js';

const REGISTERS = 8;

/** PUSHA stores ESP as it was before. */
export const pusha: Handler = (c) => {
  const stackPointer = c.readRegister(REG.ESP, c.size);
  for (let register = 0; register < REGISTERS; register++)
    c.push(c.size, register === REG.ESP ? stackPointer : c.readRegister(register, c.size));
};

/** POPA skips the stored ESP. All loads come first; EAX lies highest. */
const popped = new Int32Array(REGISTERS);
export const popa: Handler = (c) => {
  const { size } = c;
  for (let i = 0; i < REGISTERS; i++) if (REGISTERS - 1 - i !== REG.ESP) popped[REGISTERS - 1 - i] = c.peek(i * size, size);
  for (let register = 0; register < REGISTERS; register++)
    if (register !== REG.ESP) c.writeRegister(register, size, popped[register] as number);
  c.drop(REGISTERS * size);
};

export const pushSegment =
  (segment: number): Handler =>
  (c) =>
    c.push(c.size, c.selector[segment] as number);

export const popSegment =
  (segment: number): Handler =>
  (c) => {
    loadSegment(c, segment, c.peek(0, c.size) & 0xffff);
    c.drop(c.size);
  };

/** POP to register or memory. ModRM is decoded here: an address that uses ESP uses it as it is after the pop. */
export const popRm: Handler = (c) => {
  const value = c.peek(0, c.size);
  c.drop(c.size);
  c.decodeModRm();
  if (c.reg !== 0) throw c.fatal('the simulated vCPU does not know this instruction');
  c.writeRm(c.size, value);
};

export const popf: Handler = (c) => {
  const value = c.peek(0, c.size);
  c.drop(c.size);
  c.setFlags(value, c.size);
};

export function callNear(c: Cpu, target: number): void {
  c.push(c.size, c.eip);
  c.jump(target);
}

export function callFar(c: Cpu, selector: number, offset: number): void {
  const from = c.selector[SEG.CS] as number;
  const { eip } = c;
  farJump(c, selector, offset);
  c.push(c.size, from);
  c.push(c.size, eip);
}

export function returnNear(c: Cpu, extra: number): void {
  const target = c.pop(c.size);
  c.drop(extra);
  c.jump(target);
}

export function returnFar(c: Cpu, extra: number): void {
  const offset = c.peek(0, c.size);
  const selector = c.peek(c.size, c.size) & 0xffff;
  if (c.protectedMode && (selector & 3) !== 0) throw c.fatal('RETF to another privilege level is not simulated');
  farJump(c, selector, offset);
  c.drop(2 * c.size + extra);
}

/** ENTER with nesting level 0, the only one that compilers make. */
export const enterFrame: Handler = (c) => {
  const bytes = c.fetch16();
  if ((c.fetch8() & 31) !== 0) throw c.fatal('ENTER with a nesting level is not simulated');
  c.push(c.size, c.readRegister(REG.EBP, c.size));
  c.writeRegister(REG.EBP, c.stack32 ? 4 : 2, c.readRegister(REG.ESP, c.stack32 ? 4 : 2));
  c.drop(-bytes);
};

export const leave: Handler = (c) => {
  const width = c.stack32 ? 4 : 2;
  const frame = c.readRegister(REG.EBP, width);
  const value = c.bus.load(((c.base[SEG.SS] as number) + frame) >>> 0, c.size);
  c.writeRegister(REG.ESP, width, frame + c.size);
  c.writeRegister(REG.EBP, c.size, value);
};

const LOOPNE = 0xe0;
const LOOPE = 0xe1;
const JCXZ = 0xe3;

/** LOOPNE, LOOPE, LOOP and JCXZ, E0 to E3: the count is CX or ECX by address size. */
export const loop: Handler = (c) => {
  const displacement = c.fetch8s();
  const width = c.address32 ? 4 : 2;
  if (c.opcode === JCXZ) {
    if (c.readRegister(REG.ECX, width) === 0) c.jump(c.eip + displacement);
    return;
  }
  c.writeRegister(REG.ECX, width, c.readRegister(REG.ECX, width) - 1);
  const zero = (c.flags & FLAG.ZF) !== 0;
  const holds = c.opcode === LOOPNE ? !zero : c.opcode === LOOPE ? zero : true;
  if (holds && c.readRegister(REG.ECX, width) !== 0) c.jump(c.eip + displacement);
};
