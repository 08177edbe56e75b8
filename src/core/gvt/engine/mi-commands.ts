/** The MI commands that write memory and registers or raise interrupts (facts: gvt.md 4.16, 8.6; i915.md). */
import { pageOffset } from '../../addresses.js';
import { Status } from '../../gvt-ops.js';
import type { GvtEvent } from '../roles.js';
import { badLength, type Execute, type Flow, fault, gpuAddress, USE_GGTT, unmapped, withDword } from './command.js';
import { ENGINE_REGISTER, PDP_REGISTERS, userInterruptMasked } from './engine-registers.js';
import { inStatusPage, postSync } from './post-sync.js';
import type { CommandStreamer } from './streamer.js';

/** Commands name registers by bits 22:2 of their offset. */
const REGISTER_MASK = 0x7f_fffc;
const USER_EVENTS: readonly GvtEvent[] = ['rcs.user', 'bcs.user', 'vcs.user', 'vecs.user'];
/** What FLUSH_DW's notify raises; the render engine has none, its flush is PIPE_CONTROL. */
const FLUSH_EVENTS: readonly (GvtEvent | undefined)[] = [undefined, 'bcs.flush', 'vcs.flush', 'vecs.flush'];
/** Header bit: the data is a qword. */
const QWORD = 1 << 21;

export const userInterrupt: Execute = (streamer) => {
  const { engine, parts } = streamer;
  if (!userInterruptMasked(engine, parts.registers)) streamer.raise(USER_EVENTS[engine.id] as GvtEvent);
  return undefined;
};

/** Stores a dword, or a qword, in one piece. */
function store(streamer: CommandStreamer, ggtt: boolean, address: number, low: number, high: number | undefined): Flow | undefined {
  if (streamer.drops(ggtt)) return undefined;
  const page = streamer.pageToWrite(ggtt, address);
  if (page === undefined) return unmapped(ggtt, address);
  if (high === undefined) page.store32(pageOffset(address) & ~3, low);
  else if (address % 8 !== 0) return fault('a qword is not aligned');
  else page.store64(pageOffset(address), low, high);
  return undefined;
}

/** MI_STORE_DATA_IMM: address (2), data (1, or 2 with header bit 21). */
export const storeDataImm: Execute = (streamer, length) => {
  const [header, low, high, data, dataHigh] = streamer.command as unknown as [number, number, number, number, number];
  const qword = (header & QWORD) !== 0;
  if (length !== (qword ? 5 : 4)) return badLength(length);
  return store(streamer, (header & USE_GGTT) !== 0, gpuAddress(low, high), data, qword ? dataHigh : undefined);
};

/** MI_STORE_DATA_INDEX: offset in the status page, data (1, or 2 with a fourth dword). */
export const storeDataIndex: Execute = (streamer, length) => {
  const { command } = streamer;
  if (length !== 3 && length !== 4) return badLength(length);
  const address = inStatusPage(streamer, (command[1] as number) & ~3);
  return store(streamer, true, address, command[2] as number, length === 4 ? (command[3] as number) : undefined);
};

/** MI_LOAD_REGISTER_IMM: pairs of register and value. Stops at the first register that refuses. */
export const loadRegisterImm: Execute = (streamer, length) => {
  const { command } = streamer;
  if (length < 3 || length % 2 === 0) return badLength(length);
  for (let i = 1; i < length; i += 2) {
    const flow = loadRegister(streamer, command[i] as number, command[i + 1] as number);
    if (flow !== undefined) return flow;
  }
  return undefined;
};

/** MI_STORE_REGISTER_MEM: register, address (2). */
export const storeRegisterMem: Execute = (streamer, length) => {
  const { command } = streamer;
  if (length !== 4) return badLength(length);
  const value = streamer.parts.commands.readFromCommand((command[1] as number) & REGISTER_MASK);
  const address = gpuAddress(command[2] as number, command[3] as number);
  return store(streamer, ((command[0] as number) & USE_GGTT) !== 0, address, value, undefined);
};

/** MI_LOAD_REGISTER_MEM: the same the other way. */
export const loadRegisterMem: Execute = (streamer, length) =>
  withDword(streamer, length, (dword) => loadRegister(streamer, streamer.command[1] as number, dword));

/** MI_LOAD_REGISTER_REG: source, destination. */
export const loadRegisterReg: Execute = (streamer, length) => {
  const { command, parts } = streamer;
  if (length !== 3) return badLength(length);
  return loadRegister(streamer, command[2] as number, parts.commands.readFromCommand((command[1] as number) & REGISTER_MASK));
};

/** Header bits of MI_COPY_MEM_MEM. */
const DESTINATION_GGTT = 1 << 21;
const SOURCE_GGTT = 1 << 22;

/** MI_COPY_MEM_MEM: a dword from the source (address, 2) to the destination (2), which comes first. */
export const copyMemMem: Execute = (streamer, length) => {
  const { command } = streamer;
  if (length !== 5) return badLength(length);
  const header = command[0] as number;
  const [from, to] = [(header & SOURCE_GGTT) !== 0, (header & DESTINATION_GGTT) !== 0];
  if (streamer.drops(from || to)) return undefined;
  const source = gpuAddress(command[3] as number, command[4] as number);
  const page = streamer.page(from, source);
  if (page === undefined) return unmapped(from, source);
  const value = page.load32(pageOffset(source) & ~3);
  return store(streamer, to, gpuAddress(command[1] as number, command[2] as number), value, undefined);
};

function loadRegister(streamer: CommandStreamer, register: number, value: number): Flow | undefined {
  const offset = register & REGISTER_MASK;
  const { engine, parts, privileged } = streamer;
  const status = parts.commands.writeFromCommand(offset, value, privileged);
  if (status !== Status.OK)
    return fault(`register 0x${offset.toString(16)} ${status === Status.EFAULT ? 'does not exist' : 'is not for commands'}`);
  const pdp = offset - engine.base - ENGINE_REGISTER.PDP;
  if (pdp >= 0 && pdp < PDP_REGISTERS * 4 && privileged) streamer.rootChanged();
  return undefined;
}

/** MI_FLUSH_DW: address (2), with the address space in bit 2; data (1 or 2). */
export const flushDw: Execute = (streamer, length) => {
  const { command, engine } = streamer;
  const header = command[0] as number;
  if (length !== 4 && length !== 5) return badLength(length);
  const low = command[1] as number;
  const flow = postSync(streamer, {
    operation: (header >>> 14) & 3,
    depthCount: false,
    index: (header & (1 << 21)) !== 0,
    ggtt: (low & 4) !== 0,
    address: gpuAddress(low & ~7, command[2] as number),
    low: command[3] as number,
    high: length === 5 ? (command[4] as number) : undefined,
  });
  if (flow !== undefined) return flow;
  const event = FLUSH_EVENTS[engine.id];
  if ((header & (1 << 8)) !== 0 && event !== undefined) streamer.raise(event);
  return undefined;
};

/** PIPE_CONTROL, the render engine's flush: flags, address (2), data (2). The flags say what FLUSH_DW's header does. */
export const pipeControl: Execute = (streamer, length) => {
  const { command } = streamer;
  const flags = command[1] as number;
  if (length !== 6) return badLength(length);
  const flow = postSync(streamer, {
    operation: (flags >>> 14) & 3,
    depthCount: true,
    index: (flags & (1 << 21)) !== 0,
    ggtt: (flags & (1 << 24)) !== 0,
    address: gpuAddress(command[2] as number, command[3] as number),
    low: command[4] as number,
    high: command[5] as number,
  });
  if (flow !== undefined) return flow;
  if ((flags & (1 << 8)) !== 0) streamer.raise('rcs.pipe-control');
  return undefined;
};
