/** The MI commands that have an effect here (facts: gvt.md 4.16, 8.6; i915.md). All addresses are GGTT addresses. */
import { PAGE_SIZE } from '../../addresses.js';
import { Status } from '../../gvt-ops.js';
import type { EngineId, GvtEvent, RegisterPort } from '../roles.js';
import { badLength, type Execute, type Flow, fault, gpuAddress, NOT_MAPPED, PER_PROCESS } from './command.js';
import { postSync } from './post-sync.js';
import { storeQword } from './qword.js';

/** Header bit: the address is a GGTT address. */
const USE_GGTT = 1 << 22;
/** Commands name registers by bits 22:2 of their offset. */
const REGISTER_MASK = 0x7f_fffc;
/** RING_IMR. */
const IMR = 0xa8;
/** Bit of an engine's user interrupt in its RING_IMR: the second engine of a GT group has the upper half. */
const USER_INTERRUPT_BIT: Readonly<Record<EngineId, number>> = { 0: 0, 1: 16, 2: 0, 3: 0 };
const USER_EVENTS: readonly GvtEvent[] = ['rcs.user', 'bcs.user', 'vcs.user', 'vecs.user'];
/** What FLUSH_DW's notify raises; the render engine has none, its flush is PIPE_CONTROL. */
const FLUSH_EVENTS: readonly (GvtEvent | undefined)[] = [undefined, 'bcs.flush', 'vcs.flush', 'vecs.flush'];

export const userInterrupt: Execute = (streamer) => {
  const { engine, parts } = streamer;
  if ((parts.registers.get(engine.base + IMR) & (1 << USER_INTERRUPT_BIT[engine.id])) === 0)
    streamer.raise(USER_EVENTS[engine.id] as GvtEvent);
  return undefined;
};

/** MI_STORE_DATA_IMM: address (2), data (1, or 2 with header bit 21). */
export const storeDataImm: Execute = ({ command, parts }, length) => {
  const header = command[0] as number;
  if ((header & USE_GGTT) === 0) return fault(PER_PROCESS);
  const qword = (header & (1 << 21)) !== 0;
  if (length !== (qword ? 5 : 4)) return badLength(length);
  const address = gpuAddress(command[1] as number, command[2] as number);
  const page = parts.memory.page(address);
  if (page === undefined) return fault(NOT_MAPPED);
  if (!qword) page.u32[(address % PAGE_SIZE) >> 2] = command[3] as number;
  else if (address % 8 !== 0) return fault('a qword is not aligned');
  else storeQword(page, address, command[3] as number, command[4] as number);
  return undefined;
};

/** MI_LOAD_REGISTER_IMM: pairs of register and value. Stops at the first register that refuses. */
export const loadRegisterImm: Execute = ({ command, parts }, length) => {
  if (length < 3 || length % 2 === 0) return badLength(length);
  for (let i = 1; i < length; i += 2) {
    const flow = loadRegister(parts.commands, command[i] as number, command[i + 1] as number);
    if (flow !== undefined) return flow;
  }
  return undefined;
};

/** MI_STORE_REGISTER_MEM: register, address (2). */
export const storeRegisterMem: Execute = ({ command, parts }, length) => {
  if (length !== 4) return badLength(length);
  if (((command[0] as number) & USE_GGTT) === 0) return fault(PER_PROCESS);
  const address = gpuAddress(command[2] as number, command[3] as number);
  const page = parts.memory.page(address);
  if (page === undefined) return fault(NOT_MAPPED);
  page.u32[(address % PAGE_SIZE) >> 2] = parts.commands.readFromCommand((command[1] as number) & REGISTER_MASK);
  return undefined;
};

/** MI_LOAD_REGISTER_MEM: the same the other way. */
export const loadRegisterMem: Execute = ({ command, parts }, length) => {
  if (length !== 4) return badLength(length);
  if (((command[0] as number) & USE_GGTT) === 0) return fault(PER_PROCESS);
  const address = gpuAddress(command[2] as number, command[3] as number);
  const page = parts.memory.page(address);
  if (page === undefined) return fault(NOT_MAPPED);
  return loadRegister(parts.commands, command[1] as number, page.u32[(address % PAGE_SIZE) >> 2] as number);
};

function loadRegister(registers: RegisterPort, register: number, value: number): Flow | undefined {
  const offset = register & REGISTER_MASK;
  const status = registers.writeFromCommand(offset, value);
  if (status === Status.OK) return undefined;
  return fault(`register 0x${offset.toString(16)} ${status === Status.EFAULT ? 'does not exist' : 'is not for commands'}`);
}

/** MI_BATCH_BUFFER_START: address (2). Bit 8 is its address space, bit 22 the second level. */
export const batchStart: Execute = ({ command }, length) => {
  const header = command[0] as number;
  if (length !== 3) return badLength(length);
  if ((header & (1 << 8)) !== 0) return fault(PER_PROCESS);
  return { kind: 'start', address: gpuAddress(command[1] as number, command[2] as number), secondLevel: (header & (1 << 22)) !== 0 };
};

export const batchEnd: Execute = () => ({ kind: 'end' });

/** MI_FLUSH_DW: address (2), with the address space in bit 2; data (1 or 2). */
export const flushDw: Execute = (streamer, length) => {
  const { command, engine } = streamer;
  const header = command[0] as number;
  if (length !== 4 && length !== 5) return badLength(length);
  const low = command[1] as number;
  const why = postSync(streamer, {
    operation: (header >>> 14) & 3,
    depthCount: false,
    index: (header & (1 << 21)) !== 0,
    ggtt: (low & 4) !== 0,
    address: gpuAddress(low & ~7, command[2] as number),
    low: command[3] as number,
    high: length === 5 ? (command[4] as number) : undefined,
  });
  if (why !== undefined) return fault(why);
  const event = FLUSH_EVENTS[engine.id];
  if ((header & (1 << 8)) !== 0 && event !== undefined) streamer.raise(event);
  return undefined;
};

/** PIPE_CONTROL, the render engine's flush: flags, address (2), data (2). The flags say what FLUSH_DW's header does. */
export const pipeControl: Execute = (streamer, length) => {
  const { command } = streamer;
  const flags = command[1] as number;
  if (length !== 6) return badLength(length);
  const why = postSync(streamer, {
    operation: (flags >>> 14) & 3,
    depthCount: true,
    index: (flags & (1 << 21)) !== 0,
    ggtt: (flags & (1 << 24)) !== 0,
    address: gpuAddress(command[2] as number, command[3] as number),
    low: command[4] as number,
    high: command[5] as number,
  });
  if (why !== undefined) return fault(why);
  if ((flags & (1 << 8)) !== 0) streamer.raise('rcs.pipe-control');
  return undefined;
};
