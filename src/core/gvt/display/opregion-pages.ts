/**
 * The OpRegion where the backend takes it (set_opregion): two host pages, which appear in the guest where its firmware writes ASLS
 * (facts: gvt.md 4.6, 4.17). Over VFIO it is a region instead (vfio-view.ts).
 */
import { Gfn, hex, PAGE_SIZE } from '../../addresses.js';
import type { HostPages, MptVgpuOps } from '../../mpt.js';
import type { MptBackend } from '../../mpt-backend.js';
import { refusedByHypervisor } from '../guest-error-log.js';
import type { GuestErrorLog } from '../roles.js';
import type { StateStream } from '../state/stream.js';
import type { Connector } from './connector.js';
import { buildOpRegion, OPREGION_SIZE } from './opregion.js';

const PAGES = OPREGION_SIZE / PAGE_SIZE;
/** ASLS is a 32-bit address. */
const LAST_FRAME = 2 ** 20 - 1;

/** Where the pages come from. */
export type PageHost = Pick<MptBackend, 'capabilities' | 'allocateHostPages'>;

export class OpRegionPages {
  readonly #pages: HostPages;
  readonly #handle: MptVgpuOps;
  readonly #mappable: boolean;
  /** Where they are in the guest. */
  #gfn: Gfn | undefined;

  /** @returns undefined where the backend has no set_opregion. @throws what allocation and set_opregion throw; nothing is kept then */
  static offer(backend: PageHost, handle: MptVgpuOps, connector: Connector): OpRegionPages | undefined {
    const { setOpregion, hostPages, mapGfnToMfn } = backend.capabilities;
    if (!setOpregion || !hostPages) return undefined;
    const pages = backend.allocateHostPages(PAGES);
    pages.bytes.set(buildOpRegion(connector));
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

  /**
   * What stands in the pages, and where they are in the guest.
   * @throws MptError BAD_STATE when they cannot be put there
   */
  exchange(state: StateStream, log: GuestErrorLog): void {
    state.bytes('content', this.#pages.bytes);
    const gfn = state.integer('frame', this.#gfn ?? 0, LAST_FRAME);
    if (!state.restoring || gfn === 0) return;
    this.moveTo(gfn * PAGE_SIZE, log);
    if (this.#gfn === undefined) state.refuse(`the OpRegion cannot be put at frame ${hex(gfn)} of this VM`);
  }

  /** Gives the pages back; after detach, which unmaps them. */
  release(): void {
    this.#pages.release();
  }
}

/**
 * The OpRegion as a part of a saved state. One that is in no guest memory need not be there again: a VFIO user has its own, and one whose
 * address no guest was told is not missed.
 */
export const exchangeOpRegion = (state: StateStream, pages: OpRegionPages | undefined, log: GuestErrorLog): void => {
  if (!state.bool('pages', pages !== undefined)) return;
  if (pages !== undefined) pages.exchange(state, log);
  else {
    state.bytes('content', new Uint8Array(OPREGION_SIZE));
    if (state.integer('frame', 0, LAST_FRAME) !== 0) state.refuse('the guest has the OpRegion mapped, and this backend maps none');
  }
};
