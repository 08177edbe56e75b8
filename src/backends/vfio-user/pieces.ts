/**
 * One access of a client to a region, as the guest accesses that it stands for: a BAR's as MMIO at the guest's address, configuration
 * space as PCI_CONFIG, cut to natural sizes. What is no guest access (an EDID region) the view answers itself.
 */
import type { Bdf } from '../../core/addresses.js';
import { IoKind, IoRequest } from '../../core/io-request.js';
import { accessSize, Errno, RegionIndex } from '../../core/vfio/device.js';
import type { RegionAccess } from '../../vfio/session.js';
import { PlainFunction } from './plain-function.js';
import type { PresentedFunction } from './presented.js';

export class AccessPieces {
  readonly request = new IoRequest();
  #presented: PresentedFunction | undefined;
  #access: RegionAccess | undefined;
  #done = 0;
  /** Address of the region's first byte. */
  #base = 0;
  #config = false;

  /** An access is in progress. */
  get pending(): boolean {
    return this.#access !== undefined;
  }

  /**
   * Begins an access.
   * @returns undefined when requests must be taken by `next`; else the access is over with this status
   */
  begin(presented: PresentedFunction, access: RegionAccess): Errno | undefined {
    const { region, offset, bytes, write } = access;
    this.#config = region === RegionIndex.CONFIG;
    if (region > RegionIndex.BAR5 && !this.#config)
      return write ? presented.device.write(region, offset, bytes) : presented.device.read(region, offset, bytes);
    const base = this.#config ? 0 : presented.device.barAddress(region);
    // As vfio-pci answers while memory space is off.
    if (base === undefined) return Errno.EIO;
    this.#presented = presented;
    this.#access = access;
    this.#base = base;
    this.#done = 0;
    return undefined;
  }

  /** Every piece of the access in progress was completed. */
  get done(): boolean {
    return this.#access !== undefined && this.#done === this.#access.bytes.length;
  }

  /** The next request of the access in progress, which is not done. */
  next(): IoRequest {
    const { request } = this;
    const access = this.#access as RegionAccess;
    const { offset, bytes, write } = access;
    const { vgpu } = this.#presented as PresentedFunction;
    const left = bytes.length - this.#done;
    const at = offset + this.#done;
    const size = accessSize(at, left, this.#config ? 4 : 8);
    request.kind = this.#config ? IoKind.PCI_CONFIG : IoKind.MMIO;
    request.write = write;
    request.address = this.#base + at;
    request.size = size;
    request.bdf = vgpu.bdf as Bdf;
    request.vgpu = vgpu.id;
    request.value[0] = 0;
    request.value[1] = 0;
    if (write)
      for (let i = 0; i < size; i++)
        request.value[i >>> 2] = (request.value[i >>> 2] as number) | ((bytes[this.#done + i] as number) << ((i & 3) * 8));
    return request;
  }

  /** Takes the answer of the request that `next` gave. */
  complete(): void {
    const access = this.#access;
    if (access === undefined) return;
    const { size, value } = this.request;
    const presented = this.#presented as PresentedFunction;
    if (!access.write) for (let i = 0; i < size; i++) access.bytes[this.#done + i] = (value[i >>> 2] as number) >>> ((i & 3) * 8);
    else if (this.#config) {
      presented.configChanged();
      // Its BAR's address is the transport's own matter; what else is written is whoever takes the requests'.
      if (presented.device instanceof PlainFunction)
        presented.device.write(RegionIndex.CONFIG, this.request.address, access.bytes.subarray(this.#done, this.#done + size));
    }
    this.#done += size;
  }

  /** Forgets an access whose client is gone. */
  drop(): void {
    this.#access = undefined;
  }
}
