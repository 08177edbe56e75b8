/** The vGPU that a server shows: it can be saved, put away and brought back, or be exchanged for another, while its client stays connected. */
import type { ServedMachine } from '../backends/vfio-user/served-machine.js';
import { MptError } from '../core/errors.js';
import { dispatchRequest } from '../core/gvt/dispatch.js';
import type { Gvt, RestoreSpec } from '../core/gvt/gvt.js';
import type { Vgpu } from '../core/gvt/vgpu.js';
import { IrqIndex, type VfioDevice } from '../core/vfio/device.js';

/** What can be done with the state of a served device. */
export type StateOrder =
  /** Answered by the state; the vGPU goes on. */
  | { readonly does: 'save' }
  /** Answered by the state; the vGPU is gone, and its client waits. */
  | { readonly does: 'pause' }
  /** Brings back what was put away. */
  | { readonly does: 'resume' }
  /** A new vGPU with this state, for the client that is there or the next one, takes the place of the one that is there, or was. */
  | { readonly does: 'restore'; readonly state: Uint8Array };

/** How often somebody looks, while the vGPU is away, whether it comes back. */
const AWAY_MS = 10;

export class ServedVgpu {
  readonly #gvt: Gvt;
  readonly #machine: ServedMachine;
  readonly #spec: RestoreSpec;
  #vgpu: Vgpu;
  #device: VfioDevice;
  /** State of the vGPU that was put away. */
  #away: Uint8Array | undefined;
  /** It ran when it was put away: a client was there. */
  #ran = false;
  /** Its client went meanwhile. */
  #left = false;

  /** @param spec where it is restored */
  constructor(gvt: Gvt, machine: ServedMachine, vgpu: Vgpu, spec: RestoreSpec) {
    this.#spec = spec;
    this.#gvt = gvt;
    this.#machine = machine;
    this.#vgpu = vgpu;
    this.#device = gvt.view(vgpu);
  }

  /**
   * Lets work run once a client is there: it accesses the vGPU, or has set up its interrupt, which comes after its memory. One that was
   * restored when the server started has work and, until then, no memory.
   */
  awaken(accessed: boolean): void {
    if (!this.#vgpu.active && (accessed || this.#device.irqs.armed(IrqIndex.MSI, 0))) this.#gvt.activate(this.#vgpu);
  }

  /** The vGPU, or the one that was put away last. */
  get vgpu(): Vgpu {
    return this.#vgpu;
  }

  get device(): VfioDevice {
    return this.#device;
  }

  /** The vGPU was put away: nobody answers its client. */
  get away(): boolean {
    return this.#away !== undefined;
  }

  /** For whoever would serve it, while it is away. */
  sleep(): void {
    if (!this.#machine.waitHeld(AWAY_MS)) return;
    this.#ran = false;
    this.#left = true;
  }

  /** @returns the state of `save` and `pause`. @throws MptError BAD_STATE, OVERLAP, INVALID_ARGUMENT; the vGPU is what it was before then */
  obey(order: StateOrder): Uint8Array | undefined {
    this.#finishAccess();
    switch (order.does) {
      case 'save':
        return this.#away ?? this.#gvt.saveVgpu(this.#vgpu);
      case 'pause':
        return this.#putAway();
      case 'resume':
        if (this.#away === undefined) throw new MptError('INVALID_ARGUMENT', 'the vGPU is not paused', { op: 'restore_vgpu' });
        return this.#resume(this.#away);
      case 'restore':
        return this.#exchange(order.state);
    }
  }

  #putAway(): Uint8Array {
    if (this.#away === undefined) {
      const state = this.#gvt.saveVgpu(this.#vgpu);
      this.#ran = this.#vgpu.active;
      this.#machine.hold();
      this.#gvt.destroyVgpu(this.#vgpu);
      this.#away = state;
    }
    return this.#away;
  }

  #bringBack(state: Uint8Array): undefined {
    const vgpu = this.#gvt.restoreVgpu(this.#spec, state);
    this.#vgpu = vgpu;
    this.#device = this.#gvt.view(vgpu);
    this.#away = undefined;
    this.#left = false;
    if (this.#ran) this.#gvt.activate(vgpu);
  }

  /** As it was, or as any vGPU is whose client went: the next one has other memory. */
  #resume(state: Uint8Array): undefined {
    const left = this.#left;
    this.#bringBack(state);
    if (left) this.#gvt.reset(this.#vgpu);
  }

  /** One that cannot be restored leaves the vGPU that was there. */
  #exchange(state: Uint8Array): undefined {
    const wasAway = this.away;
    const before = this.#putAway();
    try {
      this.#bringBack(state);
    } catch (error) {
      if (!wasAway) this.#resume(before);
      throw error;
    }
  }

  /** A client's access may be several of a guest's: what was begun is done first. */
  #finishAccess(): void {
    while (!this.#machine.quiet) {
      const request = this.#machine.requests.next(0);
      if (request === undefined) return;
      dispatchRequest(this.#gvt, request);
      this.#machine.requests.complete(request);
    }
  }
}
