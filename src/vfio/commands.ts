/** The protocol's commands other than region accesses: what each must have, and what answers it. */
import { regionInfoFlags } from '../core/vfio/description.js';
import { IrqIndex, RegionFlag, type VfioRegion } from '../core/vfio/device.js';
import { IrqSetFlag, VECTORS_MAX } from '../core/vfio/irqs.js';
import { BODY, Command, E, HEADER_SIZE, LIMITS, RegionCapability, setU64, UnmapFlag, u64 } from './protocol.js';
import type { Session } from './session.js';

export interface CommandRule {
  readonly name: string;
  /** Bytes of body at least. */
  readonly min: number;
  /** Descriptors at most. */
  readonly fds: number;
  /** Answers the current message of the session's stream. @returns 0 when it replied, or the positive errno to reply with */
  run(session: Session): number;
}

/** By command number. What is missing is refused with ENOTSUP: DIRTY_PAGES, DEVICE_FEATURE and migration among them. */
export const COMMANDS: Readonly<Partial<Record<number, CommandRule>>> = {
  [Command.VERSION]: { name: 'VERSION', min: BODY.VERSION, fds: 0, run: version },
  [Command.DMA_MAP]: { name: 'DMA_MAP', min: BODY.DMA_MAP, fds: 1, run: dmaMap },
  [Command.DMA_UNMAP]: { name: 'DMA_UNMAP', min: BODY.DMA_UNMAP, fds: 0, run: dmaUnmap },
  [Command.DEVICE_GET_INFO]: { name: 'DEVICE_GET_INFO', min: BODY.DEVICE_GET_INFO, fds: 0, run: deviceInfo },
  [Command.DEVICE_GET_REGION_INFO]: { name: 'DEVICE_GET_REGION_INFO', min: BODY.REGION_INFO, fds: 0, run: regionInfo },
  [Command.DEVICE_GET_REGION_IO_FDS]: { name: 'DEVICE_GET_REGION_IO_FDS', min: BODY.REGION_IO_FDS, fds: 0, run: regionIoFds },
  [Command.DEVICE_GET_IRQ_INFO]: { name: 'DEVICE_GET_IRQ_INFO', min: BODY.IRQ_INFO, fds: 0, run: irqInfo },
  [Command.DEVICE_SET_IRQS]: { name: 'DEVICE_SET_IRQS', min: BODY.SET_IRQS, fds: LIMITS.maxMsgFds, run: setIrqs },
  [Command.DEVICE_RESET]: { name: 'DEVICE_RESET', min: 0, fds: 0, run: reset },
};

const O = HEADER_SIZE;
/** The JSON of a client's VERSION; real ones have 200 bytes. */
const VERSION_JSON_MAX = 4096;
/** What a client must take in one message: a page. */
const TRANSFER_MIN = 4096;

interface Capabilities {
  readonly max_data_xfer_size?: unknown;
  readonly write_multiple?: unknown;
}

/** Negotiates version 0.x: u16 major, u16 minor, JSON that ends with a zero byte. */
function version(session: Session): number {
  const { stream } = session;
  const { view, body, bodyLength, out, outBytes } = stream;
  if (session.ready) return E.INVAL;
  const [major, minor] = [view.getUint16(body, true), view.getUint16(body + 2, true)];
  const capabilities = parseCapabilities(stream.bytes.subarray(body + BODY.VERSION, body + bodyLength));
  if (major !== 0 || capabilities === undefined) {
    session.complain(major === 0 ? 'the capabilities are no JSON object' : `the client speaks version ${major}.${minor}`);
    session.replyError(E.INVAL);
    stream.fail('no common version');
    return 0;
  }
  const { max_data_xfer_size: asked = LIMITS.maxDataXferSize } = capabilities;
  if (typeof asked !== 'number' || asked < TRANSFER_MIN) {
    session.complain(`the client takes ${asked} bytes of data in a message, fewer than ${TRANSFER_MIN}`);
    session.replyError(E.INVAL);
    stream.fail('no common version');
    return 0;
  }
  session.agreed(Math.floor(asked));
  const answer = {
    capabilities: {
      max_msg_fds: LIMITS.maxMsgFds,
      max_dma_maps: LIMITS.maxDmaMaps,
      max_data_xfer_size: LIMITS.maxDataXferSize,
      pgsizes: 4096,
      ...(capabilities.write_multiple === true ? { write_multiple: true } : {}),
    },
  };
  const json = new TextEncoder().encode(`${JSON.stringify(answer)}\0`);
  out.setUint16(O, 0, true);
  out.setUint16(O + 2, 0, true);
  outBytes.set(json, O + BODY.VERSION);
  session.reply(BODY.VERSION + json.length);
  return 0;
}

/** The client's capabilities, {} when it sent none; undefined for what is no JSON object. */
function parseCapabilities(bytes: Uint8Array): Capabilities | undefined {
  if (bytes.length === 0) return {};
  if (bytes.length > VERSION_JSON_MAX || bytes.at(-1) !== 0) return undefined;
  try {
    const document: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(0, -1)));
    if (typeof document !== 'object' || document === null) return undefined;
    const { capabilities = {} } = document as { capabilities?: unknown };
    return typeof capabilities === 'object' && capabilities !== null ? (capabilities as Capabilities) : undefined;
  } catch {
    return undefined;
  }
}

/** u32 argsz, u32 flags, u64 offset, u64 address, u64 size; with one descriptor, or none. */
function dmaMap(session: Session): number {
  const { view, body, fds } = session.stream;
  const flags = view.getUint32(body + 4, true);
  const errno = session.memory.map(u64(view, body + 16), u64(view, body + 24), flags, fds[0], u64(view, body + 8));
  if (errno === 0) session.reply(0);
  return errno;
}

/** u32 argsz, u32 flags, u64 address, u64 size; the reply's size is what was unmapped. A dirty bitmap is not offered. */
function dmaUnmap(session: Session): number {
  const { view, body, bytes: input, out, outBytes } = session.stream;
  const flags = view.getUint32(body + 4, true);
  const [address, size] = [u64(view, body + 8), u64(view, body + 16)];
  if ((flags & ~(UnmapFlag.ALL | UnmapFlag.DIRTY_BITMAP)) !== 0) return E.INVAL;
  if ((flags & UnmapFlag.DIRTY_BITMAP) !== 0) return E.NOTSUP;
  let bytes: number;
  if ((flags & UnmapFlag.ALL) === 0) bytes = session.memory.unmap(address, size);
  else if (address !== 0 || size !== 0) return E.INVAL;
  else bytes = session.memory.clear();
  if (bytes < 0) return -bytes;
  outBytes.set(input.subarray(body, body + BODY.DMA_UNMAP), O);
  setU64(out, O + 16, bytes);
  session.reply(BODY.DMA_UNMAP);
  return 0;
}

/** u32 argsz, u32 flags, u32 regions, u32 interrupts. */
function deviceInfo(session: Session): number {
  const { stream, device } = session;
  const { view, body, out } = stream;
  if (view.getUint32(body, true) < BODY.DEVICE_GET_INFO) return E.INVAL;
  out.setUint32(O, BODY.DEVICE_GET_INFO, true);
  out.setUint32(O + 4, device.flags, true);
  out.setUint32(O + 8, device.regionCount, true);
  out.setUint32(O + 12, IrqIndex.COUNT, true);
  session.reply(BODY.DEVICE_GET_INFO);
  return 0;
}

/**
 * struct vfio_region_info and its capabilities. Where the client's argsz has no room for them, the reply has the needed argsz and the
 * offset that the capabilities would have: QEMU looks at both and asks again.
 */
function regionInfo(session: Session): number {
  const { stream, device } = session;
  const { view, body, out } = stream;
  const argsz = view.getUint32(body, true);
  const index = view.getUint32(body + 8, true);
  if (argsz < BODY.REGION_INFO || index >= device.regionCount) return E.INVAL;
  const region = device.regions.get(index);
  const end = region === undefined ? BODY.REGION_INFO : writeCapabilities(region, out);
  const capable = end > BODY.REGION_INFO;
  out.setUint32(O, end, true);
  out.setUint32(O + 4, regionInfoFlags(region), true);
  out.setUint32(O + 8, index, true);
  out.setUint32(O + 12, capable ? BODY.REGION_INFO : 0, true);
  setU64(out, O + 16, region?.size ?? 0);
  setU64(out, O + 24, region?.file?.offset ?? 0);
  const mappable = region?.file !== undefined && (region.flags & RegionFlag.MMAP) !== 0;
  session.reply(argsz < end ? BODY.REGION_INFO : end, mappable ? [region.file.fd] : undefined);
  return 0;
}

/** Capabilities behind the info: u16 id, u16 version, u32 offset of the next from the info's start. @returns the end, same origin */
function writeCapabilities(region: VfioRegion, out: DataView): number {
  let at: number = BODY.REGION_INFO;
  let previous = 0;
  const begin = (id: number): void => {
    if (previous !== 0) out.setUint32(O + previous + 4, at, true);
    previous = at;
    out.setUint16(O + at, id, true);
    out.setUint16(O + at + 2, 1, true);
    out.setUint32(O + at + 4, 0, true);
  };
  if (region.type !== undefined) {
    begin(RegionCapability.TYPE);
    out.setUint32(O + at + 8, region.type.type, true);
    out.setUint32(O + at + 12, region.type.subtype, true);
    at += 16;
  }
  if (region.areas !== undefined) {
    begin(RegionCapability.SPARSE_MMAP);
    out.setUint32(O + at + 8, region.areas.length, true);
    out.setUint32(O + at + 12, 0, true);
    at += 16;
    for (const { offset, size } of region.areas) {
      setU64(out, O + at, offset);
      setU64(out, O + at + 8, size);
      at += 16;
    }
  }
  return at;
}

/** u32 argsz, u32 flags, u32 index, u32 count: no region of ours has ioeventfds. */
function regionIoFds(session: Session): number {
  const { stream, device } = session;
  const { view, body, out } = stream;
  const index = view.getUint32(body + 8, true);
  if (view.getUint32(body, true) < BODY.REGION_IO_FDS || view.getUint32(body + 4, true) !== 0 || index >= device.regionCount)
    return E.INVAL;
  out.setUint32(O, BODY.REGION_IO_FDS, true);
  out.setUint32(O + 4, 0, true);
  out.setUint32(O + 8, index, true);
  out.setUint32(O + 12, 0, true);
  session.reply(BODY.REGION_IO_FDS);
  return 0;
}

/** u32 argsz, u32 flags, u32 index, u32 count. */
function irqInfo(session: Session): number {
  const { stream, device } = session;
  const { view, body, out } = stream;
  const index = view.getUint32(body + 8, true);
  const info = device.irqs.info[index];
  if (view.getUint32(body, true) < BODY.IRQ_INFO || info === undefined) return E.INVAL;
  out.setUint32(O, BODY.IRQ_INFO, true);
  out.setUint32(O + 4, info.flags, true);
  out.setUint32(O + 8, index, true);
  out.setUint32(O + 12, info.count, true);
  session.reply(BODY.IRQ_INFO);
  return 0;
}

/**
 * u32 argsz, u32 flags, u32 index, u32 start, u32 count, then `count` bytes for DATA_BOOL. DATA_EVENTFD comes with one descriptor a
 * vector, or with none: then the vectors are de-assigned.
 */
function setIrqs(session: Session): number {
  const { stream, device } = session;
  const { view, body, bodyLength, fds } = stream;
  const flags = view.getUint32(body + 4, true);
  const count = view.getUint32(body + 16, true);
  const eventfd = (flags & IrqSetFlag.DATA_EVENTFD) !== 0;
  const bool = (flags & IrqSetFlag.DATA_BOOL) !== 0;
  if (view.getUint32(body, true) < BODY.SET_IRQS || count > VECTORS_MAX) return E.INVAL;
  if (bool && bodyLength < BODY.SET_IRQS + count) return E.INVAL;
  if (fds.length > 0 && (!eventfd || fds.length !== count)) return E.INVAL;
  // Taken out of the message: from here on the interrupt set owns them.
  const events = stream.fds.splice(0).map(session.openEvent);
  if (events.includes(undefined)) {
    for (const event of events) event?.close();
    return E.INVAL;
  }
  const status = device.irqs.set({
    flags,
    index: view.getUint32(body + 8, true),
    start: view.getUint32(body + 12, true),
    count,
    ...(bool ? { bools: stream.bytes.slice(body + BODY.SET_IRQS, body + BODY.SET_IRQS + count) } : {}),
    ...(eventfd ? { events: events.length > 0 ? events : new Array<undefined>(count).fill(undefined) } : {}),
  });
  if (status === 0) session.reply(0);
  return -status;
}

function reset(session: Session): number {
  const errno = -session.device.reset();
  if (errno === 0) session.reply(0);
  return errno;
}
