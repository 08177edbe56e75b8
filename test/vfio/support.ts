/** Both ends of a connection in one thread: a session with a device of its own, and a peer that sends and receives bytes as they are. */
import { readdirSync, readFileSync } from 'node:fs';
import {
  DeviceFlag,
  Errno,
  type GfxPlane,
  IrqFlag,
  IrqIndex,
  RegionFlag,
  RegionIndex,
  type VfioDevice,
  type VfioRegion,
} from '../../src/core/vfio/device.js';
import { IrqSet } from '../../src/core/vfio/irqs.js';
import { EventFd } from '../../src/native/eventfd.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { EFD, F, MFD, SEAL } from '../../src/native/syscalls.js';
import { DmaMaps } from '../../src/vfio/dma-maps.js';
import { BUFFER_SIZE, HEADER_SIZE, HeaderFlag } from '../../src/vfio/protocol.js';
import { type RegionAccess, Session } from '../../src/vfio/session.js';
import { type MemoryTransport, memoryPair, socketTransportPair, type Transport } from '../../src/vfio/transport.js';

// --- bytes -------------------------------------------------------------------------------------------------------------

export const u16 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff];
export const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
export const u64 = (value: number | bigint): number[] => {
  const low = BigInt.asUintN(64, BigInt(value));
  return [...u32(Number(low & 0xffff_ffffn)), ...u32(Number(low >> 32n))];
};
export const text = (value: string): number[] => [...new TextEncoder().encode(value)];

/** A whole message. `size` replaces the true one. */
export function message(
  id: number,
  command: number,
  body: readonly number[] = [],
  flags = 0,
  size = HEADER_SIZE + body.length,
): Uint8Array {
  return Uint8Array.from([...u16(id), ...u16(command), ...u32(size), ...u32(flags), ...u32(0), ...body]);
}

/** The reply that is expected to `message(id, command)`. */
export const reply = (id: number, command: number, body: readonly number[] = []): Uint8Array =>
  message(id, command, body, HeaderFlag.REPLY);

export const errorReply = (id: number, command: number, errno: number): Uint8Array => {
  const bytes = message(id, command, [], HeaderFlag.REPLY | HeaderFlag.ERROR);
  bytes.set(u32(errno), 12);
  return bytes;
};

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');

export function join(...pieces: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces));
}

// --- descriptors -------------------------------------------------------------------------------------------------------

export const closeFd = (fd: number): number => sys.close(fd);
export const eventfd = (): number => sys.eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK);

/** A memfd of `size` bytes, with these seals. */
export function memfd(size: number, seals = 0): number {
  const fd = sys.memfdCreate('test', MFD.CLOEXEC | MFD.ALLOW_SEALING);
  sys.ftruncate(fd, size);
  if (seals !== 0) sys.fcntl(fd, F.ADD_SEALS, seals);
  return fd;
}
/** One that nobody can seal any more: kind `file`. */
export const unsealable = (size: number): number => memfd(size, SEAL.SEAL);

/** What an eventfd counted since the last call. */
export function counted(fd: number): number {
  const count = new BigUint64Array(1);
  return sys.read(fd, new Uint8Array(count.buffer)) === 8 ? Number(count[0]) : 0;
}
export const raise = (fd: number, times = 1): number => sys.write(fd, Uint8Array.from(u64(times)));

/** What a process holds: descriptors by what they are, and mappings by file. The reading itself is not in it. */
export const openFds = (): number => readdirSync('/proc/self/fd').length;
export const mappings = (what: RegExp): number =>
  readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .filter((line) => what.test(line)).length;
/** Message buffers, and guest memory. */
export const OURS = /\/dev\/zero|memfd:/;

// --- the device --------------------------------------------------------------------------------------------------------

const RW = RegionFlag.READ | RegionFlag.WRITE;
export const BAR0_SIZE = 0x20_0000;

/** A device with one of everything. BAR1 can be mapped in parts, BAR2 whole, the ROM can only be read, region 9 has a type. */
export class TestDevice implements VfioDevice {
  readonly name = 'test';
  readonly flags = DeviceFlag.PCI | DeviceFlag.RESET;
  readonly regionCount = 11;
  readonly regions: ReadonlyMap<number, VfioRegion>;
  readonly irqs = new IrqSet({
    [IrqIndex.INTX]: { flags: IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED, count: 1 },
    [IrqIndex.MSI]: { flags: IrqFlag.EVENTFD | IrqFlag.MASKABLE, count: 4 },
    [IrqIndex.MSIX]: { flags: IrqFlag.EVENTFD | IrqFlag.NORESIZE, count: 16 },
    [IrqIndex.REQ]: { flags: 0, count: 1 },
  });
  readonly bar0 = new Uint8Array(BAR0_SIZE);
  /** Accesses in order, `r 0+0x10 4`. */
  readonly log: string[] = [];
  resets = 0;
  /** What the next accesses answer. */
  status: Errno = Errno.OK;
  /** Called in the middle of each access. */
  onAccess: ((access: { region: number; offset: number; write: boolean; bytes: Uint8Array }) => void) | undefined;

  /** @param fd memory behind BAR1 and BAR2 */
  constructor(fd = -1) {
    const map = fd < 0 ? 0 : RegionFlag.MMAP;
    const file = (offset: number) => (fd < 0 ? {} : { file: { fd, offset } });
    const regions: VfioRegion[] = [
      { index: 0, size: BAR0_SIZE, flags: RW },
      {
        index: 1,
        size: 0x4000,
        flags: RW | map,
        ...file(0x1000),
        areas: [
          { offset: 0, size: 0x1000 },
          { offset: 0x2000, size: 0x2000 },
        ],
      },
      { index: 2, size: 0x1000, flags: RW | map, ...file(0) },
      { index: RegionIndex.ROM, size: 0x800, flags: RegionFlag.READ },
      { index: RegionIndex.CONFIG, size: 0x100, flags: RW },
      { index: 9, size: 0x100, flags: RW, type: { type: 1, subtype: 1 } },
      { index: 10, size: 0x1000, flags: RW, type: { type: 0x8000_8086, subtype: 2 }, areas: [{ offset: 0, size: 0x1000 }] },
    ];
    this.regions = new Map(regions.map((region) => [region.index, region]));
  }

  read(region: number, offset: number, bytes: Uint8Array): Errno {
    this.log.push(`r ${region}+0x${offset.toString(16)} ${bytes.length}`);
    this.onAccess?.({ region, offset, write: false, bytes });
    if (this.status !== Errno.OK) return this.status;
    if (region === 0) bytes.set(this.bar0.subarray(offset, offset + bytes.length));
    else bytes.fill(0xa0 + region);
    return Errno.OK;
  }

  write(region: number, offset: number, bytes: Uint8Array): Errno {
    this.log.push(`w ${region}+0x${offset.toString(16)} ${bytes.length > 8 ? bytes.length : hex(bytes)}`);
    this.onAccess?.({ region, offset, write: true, bytes });
    if (this.status !== Errno.OK) return this.status;
    if (region === 0) this.bar0.set(bytes, offset);
    return Errno.OK;
  }

  reset(): Errno {
    this.resets++;
    this.bar0.fill(0);
    return Errno.OK;
  }

  barAddress(): undefined {
    return undefined;
  }
  queryGfxPlane(): GfxPlane | Errno {
    return Errno.EINVAL;
  }
  getGfxDmabuf(): number {
    return Errno.ENOENT;
  }
  picture(): undefined {
    return undefined;
  }
}

// --- both ends ---------------------------------------------------------------------------------------------------------

export interface Received {
  readonly bytes: Uint8Array;
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly errno: number;
  readonly body: Uint8Array;
  readonly fds: number[];
}

/** A pair in memory whose descriptors are real ones: they are copied on the way, as the kernel does. */
export function copyingPair(): [MemoryTransport, MemoryTransport] {
  const pair = memoryPair(BUFFER_SIZE, closeFd);
  for (const end of pair) {
    const send = end.sendBytes.bind(end);
    end.sendBytes = (bytes, fds = []) => {
      const copies = fds.map((fd) => sys.fcntl(fd, F.DUPFD_CLOEXEC, 0));
      if (send(bytes, copies)) return true;
      for (const fd of copies) closeFd(fd);
      return false;
    };
  }
  return pair;
}

/** The other end: whole messages out of what came. */
export class Peer {
  readonly transport: Transport;
  #left: Uint8Array = new Uint8Array(0);
  #fds: number[] = [];
  gone = false;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    this.transport.output.set(bytes);
    return this.transport.send(0, bytes.length, fds);
  }

  /** What has come. */
  take(): Received[] {
    const found: Received[] = [];
    for (;;) {
      const fds: number[] = [];
      const got = this.transport.receive(0, this.transport.input.length, 0, fds);
      this.#fds.push(...fds);
      if (got < 0) this.gone = true;
      if (got <= 0) return found;
      this.#left = join(this.#left, this.transport.input.subarray(0, got));
      this.#split(found);
    }
  }

  close(): void {
    for (const fd of this.#fds) closeFd(fd);
    this.#fds = [];
    this.transport.close();
  }

  #split(found: Received[]): void {
    while (this.#left.length >= HEADER_SIZE) {
      const view = new DataView(this.#left.buffer, this.#left.byteOffset, this.#left.length);
      const size = view.getUint32(4, true);
      if (this.#left.length < size) return;
      const bytes = this.#left.slice(0, size);
      found.push({
        bytes,
        id: view.getUint16(0, true),
        command: view.getUint16(2, true),
        flags: view.getUint32(8, true),
        errno: view.getUint32(12, true),
        body: bytes.subarray(HEADER_SIZE),
        fds: this.#fds.splice(0),
      });
      this.#left = this.#left.slice(size);
    }
  }
}

export type Kind = 'memory' | 'socket';
export const KINDS: readonly Kind[] = ['memory', 'socket'];

export class Rig {
  readonly device: TestDevice;
  readonly memory: DmaMaps;
  readonly session: Session;
  readonly peer: Peer;
  readonly complaints: string[] = [];

  constructor(kind: Kind, device = new TestDevice(), options: { readonly trustFiles?: boolean } = {}) {
    const [server, client] = kind === 'memory' ? copyingPair() : socketTransportPair(sys, libcSockets);
    this.device = device;
    this.memory = new DmaMaps(sys, options);
    this.session = new Session(server, {
      device,
      memory: this.memory,
      openEvent: (fd) => EventFd.adopt(sys, fd),
      onComplaint: (what) => this.complaints.push(what),
    });
    this.peer = new Peer(client);
  }

  /** Answers what has come. */
  serve(): void {
    for (let quiet = 0; quiet < 2; ) {
      const access = this.session.receive(0);
      if (access === undefined) quiet++;
      else answer(this.session, this.device, access);
    }
  }

  /** Sends, lets the server answer, gives what came back. */
  exchange(bytes: Uint8Array, fds: readonly number[] = []): Received[] {
    this.peer.send(bytes, fds);
    this.serve();
    return this.peer.take();
  }

  /** VERSION with these capabilities; the peer may go on. */
  hello(capabilities: Record<string, unknown> = {}): Received[] {
    return this.exchange(versionMessage(1, capabilities));
  }

  close(): void {
    this.session.close();
    this.peer.close();
  }
}

export function answer(session: { complete(status: Errno): void }, device: VfioDevice, access: RegionAccess): void {
  const { region, offset, bytes, write } = access;
  session.complete(write ? device.write(region, offset, bytes) : device.read(region, offset, bytes));
}

export const versionMessage = (id: number, capabilities: Record<string, unknown> = {}): Uint8Array =>
  message(id, 1, [...u16(0), ...u16(0), ...text(`${JSON.stringify({ capabilities })}\0`)]);

/** A rig whose version is agreed on. */
export function ready(kind: Kind, device?: TestDevice, options: { readonly trustFiles?: boolean } = {}): Rig {
  const rig = new Rig(kind, device, options);
  rig.hello();
  return rig;
}
