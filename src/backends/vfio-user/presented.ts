/** A vGPU as its VM's client sees it: the view, the client's memory, and the connection while there is one. */
import type { VgpuAttachment } from '../../core/mpt.js';
import { IrqIndex, RegionIndex, type VfioDevice } from '../../core/vfio/device.js';
import type { DmaMaps } from '../../vfio/dma-maps.js';
import type { Session } from '../../vfio/session.js';
import { PCI } from './abi.js';

/** The message that the guest programmed into the MSI capability. */
interface MsiMessage {
  readonly address: number;
  readonly data: number;
  /** Vectors that the guest enabled, a power of two. */
  readonly count: number;
}

export interface Presented {
  readonly vgpu: VgpuAttachment;
  readonly device: VfioDevice;
  readonly memory: DmaMaps;
  readonly session: Session | undefined;
}

const MSI_HIGH_NONE = 0;

export class PresentedFunction implements Presented {
  readonly vgpu: VgpuAttachment;
  #memory: DmaMaps;
  #device: VfioDevice;
  /** Called before memory is used, where the VM starts only then. */
  onUse: (() => void) | undefined;
  session: Session | undefined;
  /** What `#message` found; undefined: to be read again. */
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

  /** Calls `gone` each time when memory of the client has gone. */
  watchMemory(gone: () => void): void {
    this.#memory.onUnmap = gone;
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
    return session.dmaPost(address, bytes);
  }

  /** The MSI message as it stands in configuration space; null when there is none or it is off. */
  #message(): MsiMessage | null {
    this.#msi ??= this.#readMessage();
    return this.#msi;
  }

  #readMessage(): MsiMessage | null {
    const config = new Uint8Array(256);
    if (this.#device.read(RegionIndex.CONFIG, 0, config) !== 0) return null;
    const view = new DataView(config.buffer);
    if ((view.getUint16(PCI.STATUS, true) & PCI.STATUS_CAPABILITIES) === 0) return null;
    let at = view.getUint8(PCI.CAPABILITIES) & ~3;
    // At most 48 capabilities fit: a list that goes round ends.
    for (let left = 48; at >= 0x40 && left > 0; left--) {
      if (view.getUint8(at) === PCI.MSI && at <= 256 - 16) {
        const control = view.getUint16(at + 2, true);
        if ((control & PCI.MSI_ENABLE) === 0) return null;
        const wide = (control & PCI.MSI_64) !== 0;
        if (wide && view.getUint32(at + 8, true) !== MSI_HIGH_NONE) return null;
        return {
          address: view.getUint32(at + 4, true),
          data: view.getUint16(at + (wide ? 12 : 8), true),
          count: 1 << ((control >>> 4) & 7),
        };
      }
      at = view.getUint8(at + 1) & ~3;
    }
    return null;
  }
}
