/** A vGPU as its VM's client sees it: the view, the client's memory, and the connection while there is one. */
import type { VgpuAttachment } from '../../core/mpt.js';
import { IrqIndex, RegionIndex, type VfioDevice } from '../../core/vfio/device.js';
import type { DmaMaps } from '../../vfio/dma-maps.js';
import type { Session } from '../../vfio/session.js';
import { findMsi, type MsiMessage, msiMessage } from './msi-capability.js';

/** Bytes of configuration space in which capabilities lie. */
const CONFIG_SIZE = 256;

export class PresentedFunction {
  readonly vgpu: VgpuAttachment;
  #memory: DmaMaps;
  #device: VfioDevice;
  /** Called before memory is used, where the VM starts only then. */
  onUse: (() => void) | undefined;
  session: Session | undefined;
  /** What `#message` found, null when there was nothing; undefined: to be read again. */
  #msi: MsiMessage | null | undefined;

  constructor(vgpu: VgpuAttachment, device: VfioDevice, memory: DmaMaps) {
    this.vgpu = vgpu;
    this.#device = device;
    this.#memory = memory;
  }

  get memory(): DmaMaps {
    this.onUse?.();
    return this.#memory;
  }

  get device(): VfioDevice {
    return this.#device;
  }

  set device(device: VfioDevice) {
    this.#device = device;
    this.#msi = undefined;
  }

  /** Takes over what another one had at the same place: the client does not notice. */
  succeed(other: PresentedFunction): void {
    this.#memory = other.#memory;
    this.#device = other.#device;
    this.session = other.session;
    this.onUse = undefined;
    this.#msi = undefined;
  }

  /** Calls `gone` each time when memory of the client has gone, and `came` when some has come. */
  watchMemory(gone: () => void, came: () => void): void {
    this.#memory.onUnmap = gone;
    this.#memory.onMap = came;
  }

  /** Configuration space may have changed. */
  configChanged(): void {
    this.#msi = undefined;
  }

  /**
   * Raises the interrupt: by the client's eventfd when the message is the one that the guest programmed, else as what it is, a write of
   * four bytes to the local APIC.
   * @returns false when there is no client
   */
  raise(address: number, data: number): boolean {
    this.onUse?.();
    const { session } = this;
    if (session === undefined || !session.open) return false;
    const message = this.#message();
    if (message !== null && message.address === address) {
      const vector = data - message.data;
      if (vector >= 0 && vector < message.count && this.#device.irqs.trigger(IrqIndex.MSI, vector)) return true;
    }
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, data, true);
    return session.requests.dmaPost(address, bytes);
  }

  /** The MSI message as it stands in configuration space; null when there is none or it is off. */
  #message(): MsiMessage | null {
    if (this.#msi === undefined) {
      const config = new DataView(new ArrayBuffer(CONFIG_SIZE));
      const status = this.#device.read(RegionIndex.CONFIG, 0, new Uint8Array(config.buffer));
      this.#msi = status === 0 ? (msiMessage(config, findMsi(config)) ?? null) : null;
    }
    return this.#msi;
  }
}
