/**
 * String instructions. One element per execution: with a repeat prefix the instruction stays where it is until its
 * count is used up, so interrupts and device accesses come between elements as on hardware.
 */
import { FLAG, sub } from './alu.js';
import { type Cpu, REG, SEG } from './cpu.js';
import type { Handler, Width } from './forms.js';

const REPEAT_NOT_EQUAL = 0xf2;

const indexRegister = (c: Cpu, register: number): number => (c.address32 ? (c.r32[register] as number) : (c.r16[register * 2] as number));

function setIndexRegister(c: Cpu, register: number, value: number): void {
  if (c.address32) c.r32[register] = value;
  else c.r16[register * 2] = value;
}

/** DS:ESI, or the segment of the prefix. */
const sourceLinear = (c: Cpu): number => ((c.base[c.segment >= 0 ? c.segment : SEG.DS] as number) + indexRegister(c, REG.ESI)) >>> 0;
const destinationLinear = (c: Cpu): number => ((c.base[SEG.ES] as number) + indexRegister(c, REG.EDI)) >>> 0;

function advance(c: Cpu, register: number, size: number): void {
  setIndexRegister(c, register, indexRegister(c, register) + ((c.flags & FLAG.DF) !== 0 ? -size : size));
}

/** Wraps one element's work in the repeat prefix. `compares`: REPE and REPNE also end on ZF. */
const repeated =
  (width: Width, compares: boolean, element: (c: Cpu, size: number) => void): Handler =>
  (c) => {
    const size = width === 'b' ? 1 : c.size;
    if (c.repeat === 0) {
      element(c, size);
      return;
    }
    const count = indexRegister(c, REG.ECX);
    if (count === 0) return;
    element(c, size);
    setIndexRegister(c, REG.ECX, count - 1);
    const equal = (c.flags & FLAG.ZF) !== 0;
    const goesOn = count !== 1 && (!compares || equal === (c.repeat !== REPEAT_NOT_EQUAL));
    if (goesOn) c.eip = c.start;
  };

export const movs = (width: Width): Handler =>
  repeated(width, false, (c, size) => {
    c.bus.store(destinationLinear(c), size, c.bus.load(sourceLinear(c), size));
    advance(c, REG.ESI, size);
    advance(c, REG.EDI, size);
  });

export const stos = (width: Width): Handler =>
  repeated(width, false, (c, size) => {
    c.bus.store(destinationLinear(c), size, c.readRegister(REG.EAX, size));
    advance(c, REG.EDI, size);
  });

export const lods = (width: Width): Handler =>
  repeated(width, false, (c, size) => {
    c.writeRegister(REG.EAX, size, c.bus.load(sourceLinear(c), size));
    advance(c, REG.ESI, size);
  });

export const cmps = (width: Width): Handler =>
  repeated(width, true, (c, size) => {
    const first = c.bus.load(sourceLinear(c), size);
    sub(c, first, c.bus.load(destinationLinear(c), size), size);
    advance(c, REG.ESI, size);
    advance(c, REG.EDI, size);
  });

export const scas = (width: Width): Handler =>
  repeated(width, true, (c, size) => {
    sub(c, c.readRegister(REG.EAX, size), c.bus.load(destinationLinear(c), size), size);
    advance(c, REG.EDI, size);
  });

/** INS and OUTS: port in DX. */
export const ins = (width: Width): Handler =>
  repeated(width, false, (c, size) => {
    c.bus.store(destinationLinear(c), size, c.bus.portIn(c.readRegister(REG.EDX, 2), size));
    advance(c, REG.EDI, size);
  });

export const outs = (width: Width): Handler =>
  repeated(width, false, (c, size) => {
    c.bus.portOut(c.readRegister(REG.EDX, 2), size, c.bus.load(sourceLinear(c), size));
    advance(c, REG.ESI, size);
  });
