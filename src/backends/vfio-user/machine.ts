/**
 * A VM of our own: an interpreted PC in the client's role, connected to the vGPUs by vfio-user over a pair of sockets. Guest memory is
 * memory files that both sides map; every access to a vGPU is a message, every interrupt an eventfd or a message. Both ends share this
 * thread and take turns, so that a run is the same each time.
 *
 * Accesses that reach no vGPU are the PC's own affair and are delivered without a message.
 */
import type { Gpa, VmId } from '../../core/addresses.js';
import type { DeviceMemory } from '../../core/device-memory.js';
import { MptError } from '../../core/errors.js';
import { GuestRam } from '../../core/guest-ram.js';
import { IoKind, type IoRequest, type RequestSource } from '../../core/io-request.js';
import type { Machine, MachineSpec, StopToken } from '../../core/machine.js';
import type { RamRegion } from '../../core/ram-access.js';
import { RegionIndex, type VfioDevice } from '../../core/vfio/device.js';
import { MemfdMemories } from '../../native/device-memory.js';
import { EventFd } from '../../native/eventfd.js';
import { makeMapping } from '../../pc/address-space.js';
import { Pc } from '../../pc/pc.js';
import { VfioUserClient } from '../../vfio/client.js';
import { Session } from '../../vfio/session.js';
import { socketTransportPair } from '../../vfio/transport.js';
import { firstFrameOf } from './abi.js';
import { GuestFunction } from './guest-function.js';
import { AccessPieces } from './pieces.js';
import type { PresentedFunction } from './presented.js';
import type { ServingBackend, VfioUserMachine } from './serving.js';

/** Both ends of one function. */
interface Link {
  readonly presented: PresentedFunction;
  readonly session: Session;
  readonly guest: GuestFunction;
}

/** Rounds of an exchange that both ends have: more means that one of them waits for what cannot come. */
const ROUNDS_MAX = 1000;

export class InterpretedMachine implements Machine, VfioUserMachine, RequestSource {
  readonly vmId: VmId;
  readonly ram: readonly RamRegion[];
  readonly #backend: ServingBackend;
  readonly #memories: readonly DeviceMemory[];
  readonly #memory: GuestRam;
  readonly #pc: Pc;
  readonly #links = new Map<number, Link>();
  readonly #pieces = new AccessPieces();
  /** Access of the guest that waits for its function's reply. */
  #waiting: { readonly link: Link; readonly request: IoRequest } | undefined;
  /** What was delivered and not completed: a piece, or the PC's own request. */
  #delivered: IoRequest | undefined;
  #closed = false;

  constructor(backend: ServingBackend, vmId: VmId, spec: MachineSpec) {
    this.#backend = backend;
    this.vmId = vmId;
    const allocator = new MemfdMemories(backend.system.sys);
    const memories: DeviceMemory[] = [];
    try {
      for (const { gpa, size } of spec.ram) memories.push(allocator.allocate(size, `guest memory at ${gpa}`));
    } catch (error) {
      for (const memory of memories) memory.close();
      throw error;
    }
    this.#memories = memories;
    this.ram = spec.ram.map(({ gpa, size }) => ({ gpa, size }));
    const regions = this.ram.map(({ gpa }, i) => makeMapping(gpa, (memories[i] as DeviceMemory).bytes));
    this.#memory = new GuestRam(regions);
    this.#pc = new Pc({ ram: regions, stopFlag: backend.stopFlag, route: () => 0, backend: 'vfio-user' });
  }

  get requests(): RequestSource {
    return this;
  }

  get stopToken(): StopToken {
    return this.#pc.stopToken;
  }

  boot(gpa: Gpa, image: Uint8Array): void {
    if (this.#closed) throw this.#backend.error('CLOSED', 'the machine is closed', { op: 'boot' });
    if (this.#delivered !== undefined || this.#waiting !== undefined)
      throw this.#backend.error('BUSY', 'a guest access is not completed', { op: 'boot' });
    this.#pc.boot(gpa, image, (at, bytes) => this.#memory.write(at, bytes, 0, bytes.length));
  }

  /** Shows the vGPU to the guest as this device, in place of the plain function that it was. */
  present(presented: PresentedFunction, view: VfioDevice): void {
    this.withdraw(presented);
    presented.device = view;
    this.adopt(presented);
  }

  exitCounts(): Readonly<Record<string, number>> {
    return this.#pc.requests.counts();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pc.requests.vmGone();
    this.#backend.vmClosed(this);
    for (const { presented } of [...this.#links.values()]) this.withdraw(presented);
    for (const memory of this.#memories) memory.close();
  }

  // --- VfioUserMachine ------------------------------------------------------------------------------------------------

  /** Connects a function: the guest's side asks what a client asks, and is answered. */
  adopt(presented: PresentedFunction): void {
    const { sys, sockets } = this.#backend.system;
    const [server, client] = socketTransportPair(sys, sockets);
    const session = new Session(server, {
      device: presented.device,
      memory: presented.memory,
      openEvent: (fd) => EventFd.adopt(sys, fd),
    });
    const answer = (): void => {
      const access = session.receive(0);
      if (access === undefined) return;
      const { region, offset, bytes, write } = access;
      session.complete(write ? presented.device.write(region, offset, bytes) : presented.device.read(region, offset, bytes));
    };
    const end = new VfioUserClient(client, { pump: answer, onDma: (address, bytes, write) => this.#dma(address, bytes, write) });
    try {
      const ram = this.ram.map(({ gpa, size }, i) => ({ gpa, size, fd: (this.#memories[i] as DeviceMemory).fd }));
      const guest = new GuestFunction(end, sys, ram);
      presented.session = session;
      this.#links.set(presented.vgpu.bdf, { presented, session, guest });
    } catch (error) {
      end.close();
      session.close();
      throw error;
    }
  }

  withdraw(presented: PresentedFunction): void {
    const link = this.#links.get(presented.vgpu.bdf);
    if (link?.presented !== presented) return;
    this.#links.delete(presented.vgpu.bdf);
    if (this.#waiting?.link === link) {
      // The function goes while the guest waits for it: its access ends as on a bus without a device.
      this.#pieces.drop();
      this.#delivered = undefined;
      this.#answerGuest(this.#waiting.request, undefined);
    }
    presented.session = undefined;
    link.guest.close();
    link.session.close();
  }

  get firstFrame(): number {
    return firstFrameOf(this.vmId);
  }

  gpaOfHva(hva: number): number | undefined {
    for (const { presented } of this.#links.values()) {
      const gpa = presented.memory.gpaOfHva(hva);
      if (gpa !== undefined) return gpa;
    }
    return undefined;
  }

  // --- RequestSource --------------------------------------------------------------------------------------------------

  get stopped(): boolean {
    return this.#pc.requests.stopped;
  }

  stop(): void {
    this.#pc.requests.stop();
  }

  next(timeoutMs = Number.POSITIVE_INFINITY): IoRequest | undefined {
    if (this.#closed) throw this.#backend.error('VM_GONE', 'the VM was destroyed', { op: 'next' });
    if (this.#delivered !== undefined) throw this.#backend.error('INTERNAL', 'the previous access was not completed', { op: 'next' });
    if (this.#pieces.pending) return this.#deliver(this.#pieces.next());
    if (this.#waiting === undefined) this.#takeInterrupts();
    const deadline = timeoutMs === Number.POSITIVE_INFINITY ? timeoutMs : performance.now() + timeoutMs;
    for (let left = timeoutMs; ; left = deadline - performance.now()) {
      if (this.#waiting !== undefined) {
        const request = this.#exchange(this.#waiting.link);
        if (request !== undefined) return this.#deliver(request);
      }
      if (left < 0) return undefined;
      const request = this.#pc.requests.next(left);
      if (request === undefined) return undefined;
      if (!this.#send(request)) return this.#deliver(request);
    }
  }

  complete(request: IoRequest): void {
    if (request !== this.#delivered) throw this.#backend.error('INTERNAL', 'no such access is pending', { op: 'complete' });
    this.#delivered = undefined;
    if (request !== this.#pieces.request) {
      this.#pc.requests.complete(request);
      return;
    }
    this.#pieces.complete();
    if (!this.#pieces.done) return;
    this.#pieces.drop();
    this.#waiting?.link.session.complete(0);
  }

  #deliver(request: IoRequest): IoRequest {
    this.#delivered = request;
    return request;
  }

  /** Sends the guest's access to the function that it reaches; false when it reaches none. */
  #send(request: IoRequest): boolean {
    const { kind, bdf, address, size, write, value } = request;
    let link: Link | undefined;
    let region: number = RegionIndex.CONFIG;
    let offset = address;
    if (kind === IoKind.PCI_CONFIG) link = this.#links.get(bdf);
    else if (kind === IoKind.MMIO)
      for (const candidate of this.#links.values()) {
        const target = candidate.guest.decode(address, size);
        if (target === undefined) continue;
        link = candidate;
        ({ region, offset } = target);
        break;
      }
    if (link === undefined) return false;
    const { client } = link.guest;
    if (write) {
      const bytes = new Uint8Array(value.buffer, value.byteOffset, size);
      client.startWrite(region, offset, bytes);
    } else client.startRead(region, offset, size);
    this.#waiting = { link, request };
    return true;
  }

  /** Lets both ends take turns until the access is to be delivered, or its reply has come (undefined). */
  #exchange({ guest, session, presented }: Link): IoRequest | undefined {
    const { request } = this.#waiting as { request: IoRequest };
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const access = session.receive(0);
      if (access !== undefined) {
        const status = this.#pieces.begin(presented, access);
        if (status === undefined) return this.#pieces.next();
        session.complete(status);
      }
      try {
        if (!guest.client.pollReply(0)) continue;
        this.#answerGuest(request, request.write ? undefined : guest.client.readData(request.size));
      } catch (error) {
        // Refused, or the server is gone: the guest reads all ones.
        if (!(error instanceof MptError)) throw error;
        this.#answerGuest(request, undefined);
        return undefined;
      }
      if (request.kind === IoKind.PCI_CONFIG && request.write)
        guest.configWritten(request.address, request.size, request.value[0] as number);
      return undefined;
    }
    throw this.#backend.error('INTERNAL', 'the reply to a guest access does not come', { op: 'next', address: request.address });
  }

  /** The guest's access ends. @param data of a read; undefined: all ones */
  #answerGuest(request: IoRequest, data: Uint8Array | undefined): void {
    this.#waiting = undefined;
    if (!request.write) {
      request.value.fill(data === undefined ? 0xffff_ffff : 0);
      for (let i = 0; i < (data?.length ?? 0); i++)
        request.value[i >>> 2] = (request.value[i >>> 2] as number) | ((data?.[i] as number) << ((i & 3) * 8));
    }
    this.#pc.requests.complete(request);
  }

  /** Interrupts that came since the guest last ran, by eventfd or by message. */
  #takeInterrupts(): void {
    for (const { guest } of this.#links.values()) {
      guest.client.serveRequests();
      const message = guest.takeInterrupt();
      if (message !== undefined) this.#pc.lapic.message(message.address, message.data);
    }
  }

  /** DMA of a device by message: a write to the local APIC is an interrupt, everything else memory. */
  #dma(address: number, bytes: Uint8Array, write: boolean): boolean {
    if (write && bytes.length === 4 && Math.floor(address / 2 ** 20) === MSI_WINDOW) {
      const data = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
      this.#pc.lapic.message(address, data);
      return true;
    }
    if (!this.#memory.covers(address, bytes.length)) return false;
    if (write) this.#memory.write(address, bytes, 0, bytes.length);
    else this.#memory.read(address, bytes, 0, bytes.length);
    return true;
  }
}

const MSI_WINDOW = 0xfee;
