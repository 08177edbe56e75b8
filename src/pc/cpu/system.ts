/**
 * Segments, far transfers, interrupt delivery and system registers (SDM volume 3, chapters "Protected-Mode Memory
 * Management" and "Interrupt and Exception Handling"), for a vCPU that stays at privilege level 0.
 */
import { FLAG } from './alu.js';
import { type Cpu, CR0_PE, REG, SEG, VECTOR } from './cpu.js';

/** Bits of a descriptor's upper dword. */
const DESCRIPTOR = { code: 0x800, system: 0x1000, present: 0x8000, big: 0x40_0000 } as const;
/** Gate types, the low five bits of the type byte. */
const GATE = { interrupt16: 0x6, trap16: 0x7, interrupt32: 0xe, trap32: 0xf } as const;
const CR0_PG = 0x8000_0000 | 0;

/** The two dwords of the last descriptor or gate that was read. */
const entry = { low: 0, high: 0 };

/** Reads an 8-byte table entry; false beyond the limit. The table must lie in memory. */
function readEntry(c: Cpu, base: number, limit: number, index: number): boolean {
  if (index * 8 + 7 > limit) return false;
  const linear = (base + index * 8) >>> 0;
  if (c.bus.fetch(linear) < 0 || c.bus.fetch((linear + 7) >>> 0) < 0) throw c.fatal('a descriptor table lies where no memory is');
  entry.low = c.bus.load(linear, 4);
  entry.high = c.bus.load((linear + 4) >>> 0, 4);
  return true;
}

/** Reads a GDT descriptor; false for null, local and out-of-range selectors. */
const readDescriptor = (c: Cpu, selector: number): boolean =>
  selector >= 8 && (selector & 4) === 0 && readEntry(c, c.gdtBase, c.gdtLimit, selector >> 3);

const descriptorBase = (): number => ((entry.low >>> 16) & 0xffff) | ((entry.high & 0xff) << 16) | (entry.high & 0xff00_0000);

/** The last descriptor read is a present code segment. */
const isCode = (): boolean =>
  (entry.high & (DESCRIPTOR.present | DESCRIPTOR.system | DESCRIPTOR.code)) === (DESCRIPTOR.present | DESCRIPTOR.system | DESCRIPTOR.code);

function commitCode(c: Cpu, selector: number): void {
  c.selector[SEG.CS] = selector & ~3;
  c.base[SEG.CS] = descriptorBase();
  c.code32 = (entry.high & DESCRIPTOR.big) !== 0;
}

/** MOV or POP to a segment register other than CS. Loads, so it comes before any change. */
export function loadSegment(c: Cpu, segment: number, selector: number): void {
  if (!c.protectedMode) {
    c.selector[segment] = selector;
    c.base[segment] = selector << 4;
  } else if (selector < 4 && segment !== SEG.SS) {
    c.selector[segment] = selector;
    c.base[segment] = 0;
  } else {
    const code = selector & 0xfffc;
    if (!readDescriptor(c, selector) || (entry.high & DESCRIPTOR.system) === 0) throw c.exception(VECTOR.PROTECTION, code);
    if ((entry.high & DESCRIPTOR.present) === 0) throw c.exception(segment === SEG.SS ? VECTOR.STACK : VECTOR.NOT_PRESENT, code);
    c.selector[segment] = selector;
    c.base[segment] = descriptorBase();
    if (segment === SEG.SS) c.stack32 = (entry.high & DESCRIPTOR.big) !== 0;
  }
  if (segment !== SEG.SS) return;
  c.shadow = true;
  c.attention.raised = true;
}

/** JMP, CALL and RET to another code segment. */
export function farJump(c: Cpu, selector: number, offset: number): void {
  if (!c.protectedMode) {
    c.selector[SEG.CS] = selector;
    c.base[SEG.CS] = selector << 4;
  } else {
    if (!readDescriptor(c, selector)) throw c.exception(VECTOR.PROTECTION, selector & 0xfffc);
    if ((entry.high & DESCRIPTOR.system) === 0) throw c.fatal('far transfers through gates and task segments are not simulated');
    if (!isCode()) throw c.exception((entry.high & DESCRIPTOR.present) === 0 ? VECTOR.NOT_PRESENT : VECTOR.PROTECTION, selector & 0xfffc);
    commitCode(c, selector);
  }
  c.eip = offset;
}

/**
 * Enters the handler of a vector: from the instruction boundary for interrupts and INT n, with EIP set back to the
 * instruction for faults. A vector that cannot be delivered shuts the vCPU down.
 * @throws MptError GUEST_FAULT
 */
export function deliver(c: Cpu, vector: number, errorCode: number | undefined): void {
  c.halted = false;
  if (!c.protectedMode) {
    deliverReal(c, vector);
    return;
  }
  const reachable = readEntry(c, c.idtBase, c.idtLimit, vector);
  const type = (entry.high >>> 8) & 0x1f;
  if (!reachable || (entry.high & DESCRIPTOR.present) === 0 || ((type & ~1) !== GATE.interrupt32 && (type & ~1) !== GATE.interrupt16))
    throw c.fatal(`shutdown: the interrupt table has no usable gate for vector ${vector}`);
  const size = type >= GATE.interrupt32 ? 4 : 2;
  const offset = (entry.low & 0xffff) | (size === 4 ? entry.high & 0xffff_0000 : 0);
  const selector = (entry.low >>> 16) & 0xffff;
  if (!readDescriptor(c, selector) || !isCode()) throw c.fatal(`shutdown: the gate of vector ${vector} names no code segment`);
  c.push(size, c.flags);
  c.push(size, c.selector[SEG.CS] as number);
  c.push(size, c.eip);
  if (errorCode !== undefined) c.push(size, errorCode);
  commitCode(c, selector);
  c.eip = offset;
  const isInterrupt = (type & 1) === 0;
  c.flags &= ~(FLAG.TF | FLAG.NT | FLAG.RF | (isInterrupt ? FLAG.IF : 0));
}

function deliverReal(c: Cpu, vector: number): void {
  const at = (c.idtBase + vector * 4) >>> 0;
  if (vector * 4 + 3 > c.idtLimit || c.bus.fetch(at) < 0 || c.bus.fetch((at + 3) >>> 0) < 0)
    throw c.fatal(`shutdown: the interrupt table has no entry for vector ${vector}`);
  const target = c.bus.load(at, 4);
  c.push(2, c.flags);
  c.push(2, c.selector[SEG.CS] as number);
  c.push(2, c.eip);
  c.selector[SEG.CS] = target >>> 16;
  c.base[SEG.CS] = (target >>> 16) << 4;
  c.eip = target & 0xffff;
  c.flags &= ~(FLAG.IF | FLAG.TF);
}

/** IRET to the same privilege level. */
export function iret(c: Cpu): void {
  const { size } = c;
  const eip = c.peek(0, size);
  const selector = c.peek(size, size) & 0xffff;
  const flags = c.peek(2 * size, size);
  if (c.protectedMode && (selector & 3) !== 0) throw c.fatal('IRET to another privilege level is not simulated');
  if ((c.flags & FLAG.NT) !== 0) throw c.fatal('IRET to another task is not simulated');
  farJump(c, selector, eip);
  c.drop(3 * size);
  c.nmiBlocked = false;
  c.setFlags(flags, size);
}

/**
 * Gives pending interrupts their turn; called between instructions. A delivery whose pushes a device must see first
 * (a stack in a tracked page) ends the round: the next one goes on.
 */
export function takeInterrupts(c: Cpu): void {
  const { bus, lapic } = c;
  if (lapic.nmi && !c.nmiBlocked) {
    lapic.nmi = false;
    c.nmiBlocked = true;
    deliver(c, 2, undefined);
  }
  // Each has a vector of a higher class than the one in service: at most 16.
  while (lapic.ready && (c.flags & FLAG.IF) !== 0 && !bus.hasRequest) deliver(c, lapic.acknowledge(), undefined);
}

/** LGDT, LIDT: the 6-byte operand at `linear`. */
export function loadTable(c: Cpu, which: 'gdt' | 'idt', linear: number): void {
  const limit = c.bus.load(linear, 2);
  const base = c.bus.load((linear + 2) >>> 0, 4) & (c.size === 2 ? 0x00ff_ffff : -1);
  if (which === 'gdt') {
    c.gdtLimit = limit;
    c.gdtBase = base;
  } else {
    c.idtLimit = limit;
    c.idtBase = base;
  }
}

/** SGDT, SIDT. */
export function storeTable(c: Cpu, which: 'gdt' | 'idt', linear: number): void {
  c.bus.store(linear, 2, which === 'gdt' ? c.gdtLimit : c.idtLimit);
  c.bus.store((linear + 2) >>> 0, 4, which === 'gdt' ? c.gdtBase : c.idtBase);
}

/** MOV to CR0, CR2, CR3 or CR4. */
export function writeControl(c: Cpu, register: number, value: number): void {
  if (register === 1 || register > 4) throw c.exception(VECTOR.INVALID_OPCODE);
  if (register === 0 && (value & CR0_PG) !== 0) {
    if ((value & CR0_PE) === 0) throw c.exception(VECTOR.PROTECTION, 0);
    throw c.fatal('paging is not simulated');
  }
  // Bit 4 of CR0 (ET) is hardwired to 1.
  c.cr[register] = register === 0 ? value | 0x10 : value;
}

/** CPUID leaves (SDM volume 2): maximum leaf and vendor, then family 6 with FPU, TSC, MSR, APIC, CMOV and MMX. */
const CPUID: readonly (readonly [eax: number, ebx: number, ecx: number, edx: number])[] = [
  [1, 0x2054_504d, 0x5550_4376, 0x206d_6973],
  [0x600, 0, 0, 0x80_8231],
];

export function cpuid(c: Cpu): void {
  const leaf = CPUID[Math.min((c.r32[REG.EAX] as number) >>> 0, CPUID.length - 1)] as (typeof CPUID)[number];
  c.r32[REG.EAX] = leaf[0];
  c.r32[REG.EBX] = leaf[1];
  c.r32[REG.ECX] = leaf[2];
  c.r32[REG.EDX] = leaf[3];
}

const IA32_TIME_STAMP_COUNTER = 0x10;
const IA32_APIC_BASE = 0x1b;
/** Boot processor, APIC enabled, at its default address. */
const APIC_BASE_VALUE = 0xfee0_0900 | 0;

export function readMsr(c: Cpu): void {
  const register = (c.r32[REG.ECX] as number) >>> 0;
  if (register === IA32_TIME_STAMP_COUNTER) readTimestamp(c);
  else if (register === IA32_APIC_BASE) {
    c.r32[REG.EAX] = APIC_BASE_VALUE;
    c.r32[REG.EDX] = 0;
  } else throw c.exception(VECTOR.PROTECTION, 0);
}

/** Only writes that change nothing are accepted. */
export function writeMsr(c: Cpu): void {
  const same = (c.r32[REG.ECX] as number) === IA32_APIC_BASE && c.r32[REG.EAX] === APIC_BASE_VALUE && c.r32[REG.EDX] === 0;
  if (!same) throw c.exception(VECTOR.PROTECTION, 0);
}

/** The time-stamp counter counts instructions: two runs of the same guest see the same times. */
export function readTimestamp(c: Cpu): void {
  c.r32[REG.EAX] = c.instructions;
  c.r32[REG.EDX] = c.instructions / 2 ** 32;
}
