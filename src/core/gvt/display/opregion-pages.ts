/**
 * The OpRegion where the backend takes it (set_opregion): two host pages, which appear in the guest where its firmware writes ASLS
 * (facts: gvt.md 4.6, 4.17). Over VFIO it is a region instead (vfio-view.ts).
 */
import { Gfn, PAGE_SIZE } from '../../addresses.js';
import type { HostPages, MptVgpuOps } from '../../mpt.js';
import type { MptBackend } from '../../mpt-backend.js';
import { refusedByHypervisor } from '../guest-error-log.js';
import type { GuestErrorLog } from '../roles.js';
import { buildOpRegion, OPREGION_SIZE } from './opregion.js';

const PAGES = OPREGION_SIZE / PAGE_SIZE;

/** Where the pages come from. */
export type PageHost = Pick<MptBackend, 'capabilities' | 'allocateHostPages'>;

export class OpRegionPages {
  readonly #pages: HostPages;
  readonly #handle: MptVgpuOps;
  readonly #mappable: boolean;
  /** Where they are in the guest. */
  #gfn: Gfn | undefined;

  /** @returns undefined where the backend has no set_opregion. @throws what allocation and set_opregion throw; nothing is kept then */
  static offer(backend: PageHost, handle: MptVgpuOps): OpRegionPages | undefined {
    const { setOpregion, hostPages, mapGfnToMfn } = backend.capabilities;
    if (!setOpregion || !hostPages) return undefined;
    const pages = backend.allocateHostPages(PAGES);
    pages.bytes.set(buildOpRegion());
    try {
      handle.setOpregion(pages);
    } catch (error) {
      pages.release();
      throw error;
    }
    return new OpRegionPages(pages, handle, mapGfnToMfn);
  }

  private constructor(pages: HostPages, handle: MptVgpuOps, mappable: boolean) {
    this.#pages = pages;
    this.#handle = handle;
    this.#mappable = mappable;
  }

  /** ASLS was written: the pages move there; 0 takes them away. An address that cannot be mapped leaves them nowhere. */
  moveTo(address: number, log: GuestErrorLog): void {
    if (!this.#mappable) return;
    try {
      if (this.#gfn !== undefined) {
        const gfn = this.#gfn;
        this.#gfn = undefined;
        this.#handle.mapGfnToMfn(gfn, this.#pages.mfn, PAGES, false);
      }
      if (address < PAGE_SIZE) return;
      const gfn = Gfn(Math.floor(address / PAGE_SIZE));
      this.#handle.mapGfnToMfn(gfn, this.#pages.mfn, PAGES, true);
      this.#gfn = gfn;
    } catch (error) {
      refusedByHypervisor(log, error);
    }
  }

  /** Gives the pages back; after detach, which unmaps them. */
  release(): void {
    this.#pages.release();
  }
}
