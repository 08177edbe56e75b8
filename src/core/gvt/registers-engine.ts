/** Registers that each engine has, from its base (facts: gvt.md 4.8, 4.12; i915.md). */
import { Status } from '../gvt-ops.js';
import { ENGINE_REGISTER, userInterruptMasked } from './engine/engine-registers.js';
import type { RegisterContext } from './register-context.js';
import type { AfterHandler, ReadHandler, RegisterDefinition, WriteHandler } from './registers.js';
import { ENGINES, type Engine, type EngineId } from './roles.js';

const ELSP = 0x230;
const EXECLIST_STATUS_HIGH = 0x238;
const CSB = 0x370;
/** Nanoseconds of one timestamp tick: 12.5 MHz. */
const TIMESTAMP_NS = 80;
const DWORD = 2 ** 32;

/** RING_MODE bits. */
const MODE_RESTRICTED = 1 << 0;
const MODE_PPGTT = 1 << 9;
const MODE_RUN_LIST = 1 << 15;

/** Engine that an entry's `unit` names. */
const engine = (unit: number): EngineId => unit as EngineId;

const hwsPga: WriteHandler = (context, offset, value) => {
  if (value !== 0 && !context.ownsGgttAddress(value)) {
    context.log.guestError(`HWS_PGA: the status page 0x${value.toString(16)} is outside the vGPU's graphics memory`);
    return Status.EINVAL;
  }
  context.registers.set(offset, value);
  return Status.OK;
};

/** MODE_IDLE (bit 9): engines stop at once, so drivers that wait for it always see it. */
const MODE_IDLE = 0x200;
const miMode: AfterHandler = ({ registers }, offset) => {
  registers.set(offset, registers.get(offset) | MODE_IDLE);
  return Status.OK;
};

/** Ready (bit 1) follows request (bit 0): the engine can always be reset. */
const resetControl: AfterHandler = ({ registers }, offset) => {
  const value = registers.get(offset);
  registers.set(offset, (value & ~2) | ((value & 1) << 1));
  return Status.OK;
};

/** Bit set, and its write enabled. What counts is what was written, not the merged register. */
const enables = (raw: number, bit: number): boolean => (raw & bit) !== 0 && ((raw >>> 16) & bit) !== 0;

const ringMode: AfterHandler = (context, _offset, raw, unit, old) => {
  const unaware = (enables(raw, MODE_PPGTT) || enables(raw, MODE_RUN_LIST)) && !context.pvNotified;
  if (enables(raw, MODE_RESTRICTED) || unaware) {
    context.enterFailsafe('unsupported-guest');
    return Status.OK;
  }
  if (((raw >>> 16) & MODE_RUN_LIST) !== 0 && ((raw ^ old) & MODE_RUN_LIST) !== 0)
    context.submission.setEnabled(engine(unit), (raw & MODE_RUN_LIST) !== 0);
  return Status.OK;
};

/** Whoever wants the user interrupt waits for a batch. */
const ringImr: AfterHandler = ({ registers, submission }, _offset, _raw, unit) => {
  if (!userInterruptMasked(ENGINES[unit] as Engine, registers)) submission.wanted(engine(unit));
  return Status.OK;
};

const elsp: WriteHandler = (context, _offset, value, unit) => {
  if (context.active) return context.submission.writeElsp(engine(unit), value);
  context.log.guestError('ELSP: the vGPU is not active');
  return Status.ENODEV;
};

const status: ReadHandler = ({ submission }, offset, unit) =>
  submission.readStatus(engine(unit), (offset & 0xfff) === EXECLIST_STATUS_HIGH ? 1 : 0);
const csb: ReadHandler = ({ submission }, offset, unit) => submission.readCsb(engine(unit), ((offset & 0xfff) - CSB) >>> 2);
const csbPointer: ReadHandler = ({ submission }, _offset, unit) => submission.readCsbPointer(engine(unit));
const writeCsbPointer: WriteHandler = ({ submission }, _offset, value, unit) => {
  submission.writeCsbPointer(engine(unit), value);
  return Status.OK;
};

const ticks = (context: RegisterContext): number => Math.floor(context.now() / TIMESTAMP_NS);
const zero: ReadHandler = () => 0;

export const ENGINE_REGISTERS: readonly RegisterDefinition[] = [
  { name: 'RING_HWS_PGA', offset: 0x80, perEngine: true, write: hwsPga },
  { name: 'RING_PSMI_CTL', offset: 0x50, perEngine: true, masked: true },
  { name: 'RING_INSTDONE', offset: 0x6c, perEngine: true, reset: 0xffff_ffff },
  { name: 'RING_EIR', offset: 0xb0, perEngine: true, writable: 0, clearable: 0xffff },
  { name: 'RING_EMR', offset: 0xb4, perEngine: true, reset: 0xffff_ffff },
  // What is in error now: an engine that was reset is not.
  { name: 'RING_ESR', offset: 0xb8, perEngine: true, writable: 0 },
  { name: 'RING_HWSTAM', offset: 0x98, perEngine: true, reset: 0xffff_ffff },
  { name: 'RING_MI_MODE', offset: 0x9c, perEngine: true, reset: MODE_IDLE, masked: true, command: 'privileged', after: miMode },
  { name: 'RING_IMR', offset: ENGINE_REGISTER.IMR, perEngine: true, reset: 0xffff_ffff, narrow: 3, after: ringImr },
  { name: 'RING_INSTPM', offset: 0xc0, perEngine: true, masked: true, command: 'privileged' },
  { name: 'RING_RESET_CTL', offset: 0xd0, perEngine: true, masked: true, after: resetControl },
  { name: 'RING_ELSP', offset: ELSP, perEngine: true, read: zero, write: elsp },
  { name: 'RING_EXECLIST_STATUS_LO', offset: 0x234, perEngine: true, writable: 0, read: status },
  { name: 'RING_EXECLIST_STATUS_HI', offset: EXECLIST_STATUS_HIGH, perEngine: true, writable: 0, read: status },
  { name: 'RING_CONTEXT_CONTROL', offset: 0x244, perEngine: true, masked: true, command: 'privileged' },
  { name: 'RING_PDP', offset: 0x270, count: 8, perEngine: true, command: 'privileged' },
  { name: 'RING_MODE', offset: 0x29c, perEngine: true, masked: true, after: ringMode },
  { name: 'RING_TIMESTAMP', offset: 0x358, perEngine: true, writable: 0, read: (context) => ticks(context) % DWORD },
  { name: 'RING_TIMESTAMP_UDW', offset: 0x35c, perEngine: true, writable: 0, read: (context) => Math.floor(ticks(context) / DWORD) },
  { name: 'RING_CONTEXT_STATUS_BUF', offset: CSB, count: 12, perEngine: true, writable: 0, read: csb },
  { name: 'RING_CONTEXT_STATUS_PTR', offset: 0x3a0, perEngine: true, read: csbPointer, write: writeCsbPointer },
  // Tilings of the blitter's surfaces.
  { name: 'BCS_SWCTRL', offset: 0x2_2200, masked: true, command: 'allow' },
  { name: 'RING_GPR', offset: 0x600, count: 32, perEngine: true, command: 'allow' },
];
