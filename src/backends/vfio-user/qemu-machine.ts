/**
 * A VM of our own in a real QEMU: started when it is first needed, with the vGPUs that are attached by then, each on a socket; a vGPU
 * that is attached later is plugged in. The guest's test code reaches its ports through a function of ours (`port-function.ts`).
 */
import { Bdf, type Gpa, VgpuId, type VmId } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { IO_KIND_NAMES, IoKind, type IoRequest, type RequestSource } from '../../core/io-request.js';
import { checkBootImage, type Machine, type MachineSpec, type StopToken } from '../../core/machine.js';
import type { RamRegion } from '../../core/ram-access.js';
import { RegionIndex, type VfioDevice } from '../../core/vfio/device.js';
import { OwnedChild } from '../../native/child.js';
import { POLL } from '../../native/syscalls.js';
import { VfioUserServer } from '../../vfio/server.js';
import { firstFrameOf } from './abi.js';
import { AccessPieces } from './pieces.js';
import { PortFunction } from './port-function.js';
import { PresentedFunction } from './presented.js';
import { deviceArguments, GO_PORT, layoutOf, PORT_BARS, PORT_DEVICE, qemuCommand, startCode } from './qemu-command.js';
import { Qmp } from './qmp.js';
import type { ServingBackend, VfioUserMachine } from './serving.js';

interface Served {
  presented: PresentedFunction;
  readonly server: VfioUserServer;
  /** The vGPU was detached; QEMU has no way to let go of a device without its guest's help, so it stays and is nobody's. */
  orphan: boolean;
}

/** How long QEMU may take to start, and to carry out a command. */
const START_MS = 30_000;
const COMMAND_MS = 10_000;
const WAIT_MS = 100;

export class QemuMachine implements Machine, VfioUserMachine, RequestSource {
  readonly vmId: VmId;
  readonly ram: readonly RamRegion[];
  readonly stopToken: StopToken;
  readonly #backend: ServingBackend;
  readonly #command: readonly string[];
  readonly #stopFlag: Int32Array;
  readonly #counts = new Float64Array(IO_KIND_NAMES.length);
  readonly #pieces = new AccessPieces();
  readonly #ports: PresentedFunction;
  /** Attached before QEMU was started. */
  readonly #waiting: PresentedFunction[] = [];
  #served: Served[] = [];
  /** Folder of the sockets. */
  #folder = '';
  /** The one whose access is in progress. */
  #current: Served | undefined;
  #child: OwnedChild | undefined;
  #qmp: Qmp | undefined;
  /** What the start code reads from GO_PORT; 0: wait. */
  #go = 0;
  /** The start code has asked since it was last let go. */
  #asked = false;
  #booted = false;
  #delivered: IoRequest | undefined;
  #closed = false;

  /** @throws MptError UNSUPPORTED for RAM that no PC has */
  constructor(backend: ServingBackend, vmId: VmId, spec: MachineSpec, command: readonly string[]) {
    layoutOf(spec.ram);
    this.#backend = backend;
    this.vmId = vmId;
    this.#command = command;
    this.ram = spec.ram.map(({ gpa, size }) => ({ gpa, size }));
    const flag = backend.stopFlag ?? new SharedArrayBuffer(4);
    this.#stopFlag = new Int32Array(flag);
    this.stopToken = { flag, tid: 0, pid: process.pid };
    this.#ports = new PresentedFunction({ id: VgpuId(0), vmId, bdf: Bdf(PORT_DEVICE << 3) }, new PortFunction(), backend.newMemory());
  }

  get requests(): RequestSource {
    return this;
  }

  get firstFrame(): number {
    return firstFrameOf(this.vmId);
  }

  /** Copies the image and lets the start code, after a reset of the machine if the guest ran before, jump to it. */
  boot(gpa: Gpa, image: Uint8Array): void {
    if (this.#closed) throw this.#backend.error('CLOSED', 'the machine is closed', { op: 'boot' });
    if (this.#delivered !== undefined) throw this.#backend.error('BUSY', 'a guest access is not completed', { op: 'boot' });
    checkBootImage(gpa, image);
    this.start();
    if (this.#booted) {
      this.#booted = false;
      this.#go = 0;
      this.#asked = false;
      this.#pieces.drop();
      this.#qmp?.execute('system_reset', undefined, () => this.#answerAll(), COMMAND_MS);
      this.#until(() => this.#asked, 'the start code after a reset');
    }
    const memory = (this.#served[0] as Served).presented.memory;
    try {
      memory.write(gpa, image, 0, image.length);
    } catch (error) {
      throw this.#backend.wrap('boot', error);
    }
    this.#go = gpa >>> 4;
    this.#booted = true;
  }

  exitCounts(): Readonly<Record<string, number>> {
    return Object.fromEntries(IO_KIND_NAMES.map((name, kind) => [name, this.#counts[kind] as number]));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#backend.vmClosed(this);
    this.#qmp?.close();
    this.#child?.close();
    for (const { presented, server } of this.#served) {
      presented.session = undefined;
      server.close();
    }
    this.#served = [];
  }

  // --- VfioUserMachine ------------------------------------------------------------------------------------------------

  adopt(presented: PresentedFunction): void {
    const { bdf } = presented.vgpu;
    const before = this.#served.find((served) => served.presented.vgpu.bdf === bdf);
    if (before?.orphan === true) {
      presented.succeed(before.presented);
      before.presented = presented;
      before.orphan = false;
      return;
    }
    if (bdf >= 0x100 || (bdf & 7) !== 0 || bdf === 0 || before !== undefined)
      throw new MptError('UNSUPPORTED', 'QEMU has no such place for a vGPU', { address: bdf, hint: 'function 0 of a device on bus 0' });
    presented.onUse = () => this.start();
    if (this.#child === undefined) {
      // Its socket is made when QEMU starts.
      this.#waiting.push(presented);
      return;
    }
    if (this.#booted)
      throw new MptError('BUSY', 'the guest runs: QEMU cannot take a vGPU while it waits for an access', {
        address: bdf,
        hint: 'attach vGPUs before boot',
      });
    const served = this.#serve(presented);
    const args = deviceArguments(bdf >> 3, served.server.path);
    this.#qmp?.execute('device_add', args, () => this.#answerAll(), COMMAND_MS);
    this.#until(() => served.server.session?.ready === true, 'a vGPU that was plugged in');
  }

  withdraw(presented: PresentedFunction): void {
    const waiting = this.#waiting.indexOf(presented);
    if (waiting >= 0) this.#waiting.splice(waiting, 1);
    const served = this.#served.find((candidate) => candidate.presented === presented);
    if (served === undefined) return;
    if (this.#current === served) {
      this.#pieces.drop();
      this.#delivered = undefined;
      this.#current = undefined;
    }
    served.orphan = true;
  }

  present(presented: PresentedFunction, view: VfioDevice): void {
    if (!this.#waiting.includes(presented))
      throw this.#backend.error('BUSY', 'the VM has started', { op: 'present_vgpu', hint: 'attach vGPUs before' });
    presented.device = view;
  }

  gpaOfHva(hva: number): number | undefined {
    for (const { presented } of this.#served) {
      const gpa = presented.memory.gpaOfHva(hva);
      if (gpa !== undefined) return gpa;
    }
    return undefined;
  }

  // --- starting -------------------------------------------------------------------------------------------------------

  /** Starts QEMU with what is attached, and serves it until the start code waits. Idempotent. */
  start(): void {
    if (this.#child !== undefined || this.#closed) return;
    const waiting = this.#waiting.splice(0);
    const devices = waiting.map(({ vgpu }) => vgpu.bdf >> 3);
    this.#child = new OwnedChild({ start: startCode(this.ram, devices) }, (folder) => {
      this.#folder = folder;
      // The sockets must be there before QEMU connects.
      const served = [...waiting, this.#ports].map((presented) => this.#serve(presented));
      const functions = served.map(({ server, presented }) => ({ device: presented.vgpu.bdf >> 3, socket: server.path }));
      return qemuCommand(this.#command, folder, this.ram, functions);
    });
    this.#until(() => {
      this.#qmp ??= Qmp.connect(this.#backend.system.sys, this.#backend.system.sockets, `${this.#folder}/qmp`);
      return this.#asked && this.#qmp !== undefined;
    }, 'the start code');
    this.#qmp?.execute('qmp_capabilities', undefined, () => this.#answerAll(), COMMAND_MS);
  }

  #serve(presented: PresentedFunction): Served {
    const path = `${this.#folder}/device${presented.vgpu.bdf >> 3}`;
    presented.onUse = undefined;
    const server = new VfioUserServer(this.#backend.system, path, presented.device, { memory: presented.memory });
    const served = { presented, server, orphan: false };
    this.#served.push(served);
    return served;
  }

  /** Serves QEMU until something holds. @throws MptError TIMEOUT, VM_GONE when QEMU ended */
  #until(done: () => boolean, what: string): void {
    const deadline = performance.now() + START_MS;
    while (!done()) {
      this.#answerAll();
      if (this.#child?.alive !== true)
        throw this.#backend.error('VM_GONE', `QEMU ended: ${this.#child?.lastWords}`, { op: 'create_machine' });
      if (performance.now() > deadline) throw this.#backend.error('TIMEOUT', `QEMU did not get to ${what}`, { op: 'create_machine' });
    }
  }

  /** Answers what comes before the guest's code runs: configuration from the views, the start code's question. */
  #answerAll(): void {
    for (const served of this.#ready(5)) {
      const access = served.server.receive(0);
      served.presented.session = served.server.session;
      if (access === undefined) continue;
      const { region, offset, bytes, write } = access;
      if (served.presented === this.#ports && this.#askedToGo(region, offset)) this.#answerGo(bytes);
      else if (write) served.presented.device.write(region, offset, bytes);
      else served.presented.device.read(region, offset, bytes);
      served.server.complete(0);
    }
  }

  #askedToGo(region: number, offset: number): boolean {
    return region === PORT_BARS[0].index && offset === GO_PORT - PORT_BARS[0].port;
  }

  /** The segment to jump to is told once. @throws MptError GUEST_FAULT when the start code asks again: the guest was reset */
  #answerGo(bytes: Uint8Array): void {
    bytes.fill(0);
    bytes[0] = this.#go & 0xff;
    bytes[1] = this.#go >>> 8;
    if (this.#booted && this.#go === 0)
      throw this.#backend.error('GUEST_FAULT', 'the guest reset the machine: a triple fault', { op: 'next' });
    this.#go = 0;
    this.#asked = true;
  }

  // --- RequestSource --------------------------------------------------------------------------------------------------

  get stopped(): boolean {
    return Atomics.load(this.#stopFlag, 0) !== 0;
  }

  stop(): void {
    Atomics.store(this.#stopFlag, 0, 1);
  }

  next(timeoutMs = Number.POSITIVE_INFINITY): IoRequest | undefined {
    if (this.#closed) throw this.#backend.error('VM_GONE', 'the VM was destroyed', { op: 'next' });
    if (this.#delivered !== undefined) throw this.#backend.error('INTERNAL', 'the previous access was not completed', { op: 'next' });
    if (this.#pieces.pending) return this.#deliver(this.#pieces.next());
    let deadline = 0;
    for (;;) {
      if (this.stopped) return undefined;
      for (const served of this.#ready(Math.min(timeoutMs, WAIT_MS))) {
        const request = this.#take(served);
        if (request !== undefined) return this.#deliver(request);
      }
      const now = performance.now();
      deadline ||= now + timeoutMs;
      if (now >= deadline || timeoutMs <= 0) return undefined;
    }
  }

  complete(request: IoRequest): void {
    if (request !== this.#delivered) throw this.#backend.error('INTERNAL', 'no such access is pending', { op: 'complete' });
    this.#delivered = undefined;
    this.#pieces.complete();
    if (!this.#pieces.done) return;
    this.#pieces.drop();
    this.#current?.server.complete(0);
    this.#current = undefined;
  }

  #deliver(request: IoRequest): IoRequest {
    // The port function's BARs are ports, and no vGPU's.
    if (this.#current?.presented === this.#ports) request.kind = IoKind.PIO;
    this.#counts[request.kind] = (this.#counts[request.kind] as number) + 1;
    this.#delivered = request;
    return request;
  }

  #take(served: Served): IoRequest | undefined {
    const { server, presented } = served;
    const access = server.receive(0);
    presented.session = server.session;
    if (access === undefined) return undefined;
    const { region, offset, bytes, write } = access;
    if (presented === this.#ports && (region === RegionIndex.CONFIG || this.#askedToGo(region, offset))) {
      if (region !== RegionIndex.CONFIG) this.#answerGo(bytes);
      else if (!write) presented.device.read(region, offset, bytes);
      server.complete(0);
      return undefined;
    }
    if (served.orphan) {
      if (!write) bytes.fill(0xff);
      server.complete(0);
      return undefined;
    }
    const status = this.#pieces.begin(presented, access);
    if (status !== undefined) {
      server.complete(status);
      return undefined;
    }
    this.#current = served;
    return this.#pieces.next();
  }

  /** The functions for which something has come, after waiting for it. */
  #ready(ms: number): Served[] {
    const served = this.#served;
    const buffered = served.filter(({ server }) => server.buffered);
    if (buffered.length > 0) return buffered;
    const view = new DataView(new ArrayBuffer(8 * served.length));
    served.forEach(({ server }, i) => {
      view.setInt32(8 * i, server.fd, true);
      view.setInt16(8 * i + 4, POLL.IN, true);
    });
    this.#backend.system.sys.poll(new Uint8Array(view.buffer), served.length, Math.max(0, Math.ceil(ms)));
    return served.filter((_, i) => view.getInt16(8 * i + 6, true) !== 0);
  }
}
