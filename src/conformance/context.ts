/**
 * What one case works with. Everything in it is made when the case first asks for it, belongs to this case alone and is
 * released when it ends.
 */
import { type Bdf, Gpa, type Mfn, VgpuId } from '../core/addresses.js';
import { type Capability, has, type PageTrackLevel } from '../core/capabilities.js';
import type { ErrorCode, MptError } from '../core/errors.js';
import type { RamRegion } from '../core/guest-ram.js';
import type { Machine } from '../core/machine.js';
import type { HostPages, VgpuAttachment } from '../core/mpt.js';
import type { MptBackend } from '../core/mpt-backend.js';
import type { MptHandle } from '../core/mpt-handle.js';
import { type AgentOptions, GuestAgent } from '../guest/agent.js';
import { type ErrorFields, equal, ok, refuses } from './expect.js';
import { RAM_LAYOUT, VGPU_BDF } from './layout.js';
import { Recorder } from './recorder.js';

/** Bytes of BAR 0 of a vGPU that brings no view of its own. */
const BAR_SIZE = 0x10_0000;
/** PCI Local Bus Specification 3.0, 6.1: command register with its memory space bit, first BAR. */
const PCI_COMMAND = 0x04;
const PCI_COMMAND_MEMORY = 2;
const PCI_BAR0 = 0x10;

/** What a case may ask of the backend that it opens. */
export interface OpenOptions {
  /** Limit of the pages that one vGPU pins for DMA. */
  readonly pinLimitPages?: number;
  /** Level of page track, one of the factory's `pageTrackLevels`. */
  readonly pageTrack?: PageTrackLevel;
}

/** How the suite gets a backend. */
export interface BackendFactory {
  /** Gives a backend of its own each time, not yet initialized. */
  open(options?: OpenOptions): MptBackend;
  /** True when `open` cannot honour `pinLimitPages`: the cases about it are skipped. */
  readonly noPinLimit?: boolean;
  /**
   * Levels that `open` can be asked for. Cases about one of them run at it, whatever level the backend has by default; a
   * level that is neither listed nor the default is skipped.
   */
  readonly pageTrackLevels?: readonly PageTrackLevel[];
  /** Milliseconds that a case may take; default `CASE_TIMEOUT_MS`. A guest command that takes longer ends as TIMEOUT. */
  readonly caseTimeoutMs?: number;
}

/** What a case may take unless the factory says otherwise: far more than any needs, on an emulated machine too. */
export const CASE_TIMEOUT_MS = 60_000;

/** What `attach` may change. */
export interface AttachOptions {
  readonly id?: number;
  readonly machine?: Machine;
  readonly bdf?: Bdf;
  readonly pvmmio?: NonNullable<VgpuAttachment['pvmmio']>;
}

export class CaseContext {
  /** Receives every guest access of this case's machines. */
  readonly recorder = new Recorder();
  readonly #factory: BackendFactory;
  readonly #backends: MptBackend[] = [];
  readonly #machines: Machine[] = [];
  readonly #handles: MptHandle[] = [];
  #backend: MptBackend | undefined;
  #machine: Machine | undefined;
  #handle: MptHandle | undefined;
  #agent: GuestAgent | undefined;

  constructor(factory: BackendFactory) {
    this.#factory = factory;
  }

  /** Another backend, in the state in which the factory gave it: for cases about the life cycle. */
  open(): MptBackend {
    return this.#own(this.#factory.open());
  }

  /** Makes this case's backend one with a pin limit. Call it first. */
  usePinLimit(pinLimitPages: number): void {
    this.#backend = this.#own(this.#factory.open({ pinLimitPages }));
    this.#backend.hostInit(this.recorder);
    equal(this.handle.limits.pinnedPages, pinLimitPages, 'pin limit in force (does the factory pass pinLimitPages on?)');
  }

  /** Gives machines created from now on a stop flag each, where the factory set one for all. For cases that stop one. */
  useOwnStopFlags(): void {
    this.backend.stopFlag = undefined;
  }

  /** The case's backend, after host_init with the recorder. */
  get backend(): MptBackend {
    if (this.#backend === undefined) {
      this.#backend = this.open();
      this.#backend.hostInit(this.recorder);
    }
    return this.#backend;
  }

  /** True when the backend declares the capability. */
  has(capability: Capability): boolean {
    return has(this.backend.capabilities, capability);
  }

  /** The case's VM, with the suite's RAM layout. */
  get machine(): Machine {
    this.#machine ??= this.createMachine();
    return this.#machine;
  }

  /** One more VM of the case's backend. */
  createMachine(ram: readonly RamRegion[] = RAM_LAYOUT): Machine {
    const machine = this.backend.createMachine({ ram });
    this.#machines.push(machine);
    return machine;
  }

  /** vGPU 1 at 00:02.0 of the case's VM. */
  get handle(): MptHandle {
    this.#handle ??= this.attach();
    return this.#handle;
  }

  /** One more vGPU. Default: number 1, at 00:02.0, of the case's VM. */
  attach({ id = 1, machine = this.machine, bdf = VGPU_BDF, pvmmio }: AttachOptions = {}): MptHandle {
    const attachment = { id: VgpuId(id), vmId: machine.vmId, bdf };
    const handle = this.backend.attachVgpu(pvmmio === undefined ? attachment : { ...attachment, pvmmio });
    this.#handles.push(handle);
    return handle;
  }

  /** The guest agent in the case's VM, booted. */
  get agent(): GuestAgent {
    // Where the VM has devices of its own (QEMU) a vGPU cannot come while its guest stands in an access.
    if (this.#agent === undefined && !this.has('wholeBus')) void this.handle;
    this.#agent ??= this.bootAgent(this.machine);
    return this.#agent;
  }

  /**
   * Makes guest accesses to 1 MiB at `gpa` the vGPU's: by set_trap_area, or where the transport delivers BARs by itself, by placing the
   * vGPU's BAR 0 there as a guest does.
   */
  trapBar(gpa: number): void {
    if (this.has('setTrapArea')) {
      this.handle.setTrapArea(Gpa(gpa), Gpa(gpa + BAR_SIZE - 1), true);
      return;
    }
    this.placeBar(gpa);
  }

  /** The guest gives the vGPU's BAR 0 an address and turns memory space on. */
  placeBar(gpa: number): void {
    ok(this.handle.attached, 'the vGPU is not attached');
    this.agent.pciWrite(VGPU_BDF, PCI_BAR0, 4, gpa);
    this.agent.pciWrite(VGPU_BDF, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    this.recorder.clear();
  }

  /** Boots an agent in a VM. */
  bootAgent(machine: Machine, options: AgentOptions = {}): GuestAgent {
    const { caseTimeoutMs } = this.#factory;
    const limit = caseTimeoutMs === undefined ? {} : { timeoutMs: caseTimeoutMs };
    const agent = new GuestAgent(machine, (request) => this.recorder.dispatch(machine.vmId, request), { ...limit, ...options });
    agent.boot();
    return agent;
  }

  /** Host pages, released with the backend unless the case releases them. */
  hostPages(count: number): HostPages {
    return this.backend.allocateHostPages(count);
  }

  /** A frame for calls that are refused before the frame is looked at. */
  get anyMfn(): Mfn {
    return (this.has('hostPages') ? this.hostPages(1).mfn : 1) as Mfn;
  }

  /** `run` throws this code, and the error names the operation and this backend. */
  refuses(code: ErrorCode, op: string, run: () => unknown, fields: ErrorFields = {}): MptError {
    const { name } = this.backend;
    return refuses(code, run, { op, backend: name, ...fields });
  }

  /** Guest bytes through read_gpa. */
  peek(gpa: number, length: number, handle: MptHandle = this.handle): Uint8Array {
    const bytes = new Uint8Array(length);
    handle.readGpa(Gpa(gpa), bytes);
    return bytes;
  }

  /** Puts bytes into guest memory through write_gpa. */
  poke(gpa: number, bytes: Uint8Array, handle: MptHandle = this.handle): void {
    handle.writeGpa(Gpa(gpa), bytes);
  }

  /** Releases everything that the case used. @throws the first failure, after all was tried */
  close(): void {
    let failure: { readonly error: unknown } | undefined;
    const attempt = (run: () => void): void => {
      try {
        run();
      } catch (error) {
        failure ??= { error };
      }
    };
    for (const handle of this.#handles) if (handle.attached) attempt(() => handle.detachVgpu());
    for (const machine of this.#machines) attempt(() => machine.close());
    for (const backend of this.#backends) attempt(() => backend.close());
    if (failure !== undefined) throw failure.error;
  }

  #own(backend: MptBackend): MptBackend {
    this.#backends.push(backend);
    return backend;
  }
}
