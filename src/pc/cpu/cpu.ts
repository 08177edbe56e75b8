/**
 * State of the simulated vCPU and access to its operands: a 32-bit x86 at privilege level 0, in real mode or in
 * protected mode without paging. Segments have base and default size; their limits are not checked.
 *
 * An instruction handler reads all operands before it changes anything (see bus.ts).
 */
import { MptError } from '../../core/errors.js';
import type { Attention } from '../attention.js';
import type { Bus } from '../bus.js';
import type { Lapic } from '../lapic.js';
import { FLAG } from './alu.js';

/** Register numbers as instructions encode them. */
export const REG = { EAX: 0, ECX: 1, EDX: 2, EBX: 3, ESP: 4, EBP: 5, ESI: 6, EDI: 7 } as const;
export const SEG = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5 } as const;

/** Exceptions that the simulated vCPU raises (SDM volume 3, table 6-1). */
export const VECTOR = { DIVIDE: 0, BREAKPOINT: 3, OVERFLOW: 4, INVALID_OPCODE: 6, NOT_PRESENT: 11, STACK: 12, PROTECTION: 13 } as const;

/** Thrown out of an instruction that raises an exception; vector and error code stand in the Cpu. */
export const GUEST_EXCEPTION = Object.freeze({ reason: 'the instruction raised an exception' });

export const CR0_PE = 1;
/** CR0 after reset (SDM volume 3, table 9-1). */
const CR0_RESET = 0x6000_0010;
const EFLAGS_ONE = 2;
/** Byte offset of AL, CL, DL, BL, AH, CH, DH, BH in the register file. */
const BYTE_REGISTER: readonly number[] = [0, 4, 8, 12, 1, 5, 9, 13];
/** Base and index of the eight 16-bit address forms; -1 for none. */
const ADDRESS16_BASE: readonly number[] = [REG.EBX, REG.EBX, REG.EBP, REG.EBP, REG.ESI, REG.EDI, REG.EBP, REG.EBX];
const ADDRESS16_INDEX: readonly number[] = [REG.ESI, REG.EDI, REG.ESI, REG.EDI, -1, -1, -1, -1];

export class Cpu {
  readonly bus: Bus;
  readonly lapic: Lapic;
  readonly attention: Attention;

  readonly r32 = new Int32Array(8);
  readonly r16 = new Uint16Array(this.r32.buffer);
  readonly r8 = new Uint8Array(this.r32.buffer);
  /** MM0..MM7 as pairs of dwords, low first. */
  readonly mm = new Int32Array(16);
  readonly cr = new Int32Array(5);
  readonly selector = new Uint16Array(6);
  readonly base = new Int32Array(6);
  /** Default operand and address size of the code segment, and size of the stack pointer. */
  code32 = false;
  stack32 = false;
  eip = 0;
  flags = EFLAGS_ONE;
  gdtBase = 0;
  gdtLimit = 0;
  idtBase = 0;
  idtLimit = 0;

  /** After HLT, until an interrupt. */
  halted = false;
  /** The next instruction runs before interrupts are looked at: after STI and loads of SS. */
  shadow = false;
  nmiBlocked = false;
  /** The current instruction waits for a device and will run again. */
  suspended = false;
  /** Instructions executed since reset; also the time-stamp counter. */
  instructions = 0;

  // The instruction in progress.
  /** EIP of its first byte, prefixes included. */
  start = 0;
  /** Operand size of word-or-dword forms: 2 or 4. */
  size = 2;
  address32 = false;
  /** Segment override, or -1. */
  segment = -1;
  /** 0, or the repeat prefix byte 0xF2 or 0xF3. */
  repeat = 0;
  mod = 0;
  reg = 0;
  rm = 0;
  /** Offset of the memory operand. */
  offset = 0;
  offsetSegment = 0;
  opcode = 0;

  vector = 0;
  errorCode = 0;
  hasErrorCode = false;
  /** Second results of `multiply` and `divide`. */
  productHigh = 0;
  remainder = 0;

  constructor(bus: Bus, lapic: Lapic, attention: Attention) {
    this.bus = bus;
    this.lapic = lapic;
    this.attention = attention;
    this.reset();
  }

  /** Power-on state: real mode at 0xfffffff0. */
  reset(): void {
    for (const registers of [this.r32, this.mm, this.cr, this.selector, this.base]) registers.fill(0);
    this.cr[0] = CR0_RESET;
    this.selector[SEG.CS] = 0xf000;
    this.base[SEG.CS] = 0xffff_0000;
    this.code32 = false;
    this.stack32 = false;
    this.eip = 0xfff0;
    this.flags = EFLAGS_ONE;
    this.gdtBase = 0;
    this.gdtLimit = 0xffff;
    this.idtBase = 0;
    this.idtLimit = 0x3ff;
    this.halted = false;
    this.shadow = false;
    this.nmiBlocked = false;
    this.suspended = false;
    this.instructions = 0;
    this.attention.raised = true;
  }

  get protectedMode(): boolean {
    return ((this.cr[0] as number) & CR0_PE) !== 0;
  }

  // --- code ---------------------------------------------------------------------------------------------------------

  fetch8(): number {
    const byte = this.bus.fetch(((this.base[SEG.CS] as number) + this.eip) >>> 0);
    if (byte < 0) throw this.fatal('the vCPU fetches an instruction where no memory is');
    this.eip = (this.eip + 1) | 0;
    return byte;
  }

  fetch8s(): number {
    return (this.fetch8() << 24) >> 24;
  }

  fetch16(): number {
    const low = this.fetch8();
    return low | (this.fetch8() << 8);
  }

  fetch32(): number {
    const low = this.fetch16();
    return low | (this.fetch16() << 16);
  }

  /** An immediate of the operand size, in the form that operands have. */
  fetch(size: number): number {
    return size === 4 ? this.fetch32() : size === 2 ? this.fetch16() : this.fetch8();
  }

  /** Continues at an offset in the code segment; with 16-bit operands its upper half is cleared. */
  jump(eip: number): void {
    this.eip = this.size === 2 ? eip & 0xffff : eip | 0;
  }

  // --- operands -----------------------------------------------------------------------------------------------------

  /** Decodes ModRM, SIB and displacement. */
  decodeModRm(): void {
    const byte = this.fetch8();
    this.mod = byte >>> 6;
    this.reg = (byte >>> 3) & 7;
    this.rm = byte & 7;
    if (this.mod === 3) return;
    if (this.address32) this.#decodeAddress32();
    else this.#decodeAddress16();
    if (this.segment >= 0) this.offsetSegment = this.segment;
  }

  #decodeAddress32(): void {
    let { mod, rm } = this;
    let index = 0;
    if (rm === 4) {
      const sib = this.fetch8();
      rm = sib & 7;
      const register = (sib >>> 3) & 7;
      if (register !== REG.ESP) index = (this.r32[register] as number) << (sib >>> 6);
    }
    this.offsetSegment = SEG.DS;
    if (rm === REG.EBP && mod === 0) {
      this.offset = (index + this.fetch32()) | 0;
      return;
    }
    if (rm === REG.EBP || rm === REG.ESP) this.offsetSegment = SEG.SS;
    const displacement = mod === 1 ? this.fetch8s() : mod === 2 ? this.fetch32() : 0;
    this.offset = ((this.r32[rm] as number) + index + displacement) | 0;
  }

  #decodeAddress16(): void {
    const { mod, rm } = this;
    this.offsetSegment = SEG.DS;
    if (mod === 0 && rm === 6) {
      this.offset = this.fetch16();
      return;
    }
    const base = ADDRESS16_BASE[rm] as number;
    const index = ADDRESS16_INDEX[rm] as number;
    if (base === REG.EBP) this.offsetSegment = SEG.SS;
    const displacement = mod === 1 ? this.fetch8s() : mod === 2 ? this.fetch16() : 0;
    this.offset = ((this.r16[base * 2] as number) + (index < 0 ? 0 : (this.r16[index * 2] as number)) + displacement) & 0xffff;
  }

  /** Linear address of the memory operand. */
  get linear(): number {
    return ((this.base[this.offsetSegment] as number) + this.offset) >>> 0;
  }

  readRegister(register: number, size: number): number {
    if (size === 4) return this.r32[register] as number;
    return size === 2 ? (this.r16[register * 2] as number) : (this.r8[BYTE_REGISTER[register] as number] as number);
  }

  writeRegister(register: number, size: number, value: number): void {
    if (size === 4) this.r32[register] = value;
    else if (size === 2) this.r16[register * 2] = value;
    else this.r8[BYTE_REGISTER[register] as number] = value;
  }

  /** The operand that ModRM names: register or memory. */
  readRm(size: number): number {
    return this.mod === 3 ? this.readRegister(this.rm, size) : this.bus.load(this.linear, size);
  }

  writeRm(size: number, value: number): void {
    if (this.mod === 3) this.writeRegister(this.rm, size, value);
    else this.bus.store(this.linear, size, value);
  }

  // --- stack --------------------------------------------------------------------------------------------------------

  #stackLinear(depth: number): number {
    const pointer = (this.r32[REG.ESP] as number) + depth;
    return ((this.base[SEG.SS] as number) + (this.stack32 ? pointer : pointer & 0xffff)) >>> 0;
  }

  /** Loads from `depth` bytes above the top of the stack. */
  peek(depth: number, size: number): number {
    return this.bus.load(this.#stackLinear(depth), size);
  }

  /** Moves the stack pointer up, or down for a negative count. */
  drop(bytes: number): void {
    if (this.stack32) this.r32[REG.ESP] = (this.r32[REG.ESP] as number) + bytes;
    else this.r16[REG.ESP * 2] = (this.r16[REG.ESP * 2] as number) + bytes;
  }

  push(size: number, value: number): void {
    this.drop(-size);
    this.bus.store(this.#stackLinear(0), size, value);
  }

  pop(size: number): number {
    const value = this.peek(0, size);
    this.drop(size);
    return value;
  }

  // --- faults -------------------------------------------------------------------------------------------------------

  /** The guest's exception, to be thrown: `throw c.exception(VECTOR.PROTECTION, 0)`. */
  exception(vector: number, errorCode?: number): typeof GUEST_EXCEPTION {
    this.vector = vector;
    this.errorCode = errorCode ?? 0;
    this.hasErrorCode = errorCode !== undefined;
    return GUEST_EXCEPTION;
  }

  /** The end of the run: what the guest did is outside of what is simulated. Names EIP and the bytes there. */
  fatal(what: string): MptError {
    const linear = ((this.base[SEG.CS] as number) + this.start) >>> 0;
    const bytes: string[] = [];
    for (let i = 0; i < 8; i++) {
      const byte = this.bus.fetch((linear + i) >>> 0);
      if (byte >= 0) bytes.push(byte.toString(16).padStart(2, '0'));
    }
    const at = `CS ${hex(this.selector[SEG.CS] as number)}, EIP ${hex(this.start >>> 0)}`;
    return new MptError('GUEST_FAULT', `${what}: ${at}, bytes ${bytes.length === 0 ? 'unreadable' : bytes.join(' ')}`, {
      backend: 'sim',
      op: 'next',
      address: linear,
    });
  }

  /** Replaces EFLAGS, upper half included only with size 4. */
  setFlags(value: number, size: number): void {
    const keep = size === 2 ? this.flags & ~0xffff : 0;
    this.flags = keep | (value & FLAGS_WRITABLE & (size === 2 ? 0xffff : -1)) | EFLAGS_ONE;
    if ((this.flags & FLAG.TF) !== 0) throw this.fatal('single-stepping (EFLAGS.TF) is not simulated');
    this.attention.raised = true;
  }
}

/** CF PF AF ZF SF TF IF DF OF IOPL NT AC ID; VM, VIF and VIP stay clear, RF is cleared by every load of EFLAGS. */
const FLAGS_WRITABLE = 0x24_7fd5;

const hex = (value: number): string => `0x${value.toString(16)}`;
