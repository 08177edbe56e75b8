/**
 * What map_gfn_to_mfn shows the guest of one vGPU: host pages, pinned one by one, or frames of a BAR that the function may map. Xen maps a few
 * frames at a time, and gives a domain the right to machine frames without counting how often.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import type { XenBackend } from './backend.js';
import type { XenDomain } from './domain.js';
import { ERRNO } from './failure.js';
import type { Grant } from './grants.js';
import type { XenMachine } from './machine.js';

/** Frames that one memory_mapping domctl may map before Xen answers E2BIG (XenGT's chunk). */
const CHUNK = 64;

/** A run of guest frames over consecutive machine frames. */
interface MachineRun {
  readonly gfn: number;
  readonly mfn: number;
  readonly nr: number;
}

/** What one map_gfn_to_mfn set up. */
interface DirectMapping {
  /** What the guest still maps of it: an unmap that failed half-way leaves the rest. */
  readonly runs: MachineRun[];
  /** Pins of the host pages behind it; empty for a BAR. */
  readonly pins: readonly Grant[];
}

export class DirectMappings {
  readonly #xen: XenBackend;
  readonly #vm: XenMachine;
  readonly #domain: XenDomain;
  /** Those of all vGPUs of the domain, these among them. */
  readonly #all: () => readonly DirectMappings[];
  readonly #byGfn = new Map<number, DirectMapping>();

  constructor(xen: XenBackend, vm: XenMachine, all: () => readonly DirectMappings[]) {
    this.#xen = xen;
    this.#vm = vm;
    this.#domain = vm.domain;
    this.#all = all;
  }

  /** @throws MptError INVALID_ADDRESS, HYPERVISOR; then nothing is mapped */
  map(gfn: number, mfn: number, nr: number): void {
    const { hostPages, bars } = this.#xen;
    const pins: Grant[] = [];
    let noted = false;
    try {
      if (hostPages.find(mfn, nr) !== undefined) for (let i = 0; i < nr; i++) pins.push(hostPages.pin(mfn + i));
      // Xen would map any frame of the machine: a forged one must not give the guest what is not meant for it.
      else if (!bars.covers(mfn, nr))
        throw new MptError('INVALID_ADDRESS', 'the frames are neither host pages of this backend nor a BAR of a function that it may map', {
          address: mfn,
          size: nr,
          hint: 'name the PCI function in the backend option mapPciDevices',
        });
      const runs = pins.length === 0 ? [{ gfn, mfn, nr }] : runsOf(gfn, pins);
      this.#noteMapping(pins, true);
      noted = true;
      this.#mapRuns(runs);
      this.#byGfn.set(gfn, { runs: [...runs], pins });
    } catch (error) {
      for (const pin of pins) hostPages.unpin(pin);
      if (noted) this.#noteMapping(pins, false);
      throw error;
    }
  }

  unmap(gfn: number): void {
    const mapping = this.#byGfn.get(gfn);
    if (mapping !== undefined) this.#unmap(gfn, mapping);
  }

  /** Takes everything from a guest that goes on; what fails stays. @param attempt runs a step and keeps its failure */
  unmapAll(attempt: (run: () => void) => void): void {
    for (const [gfn, mapping] of [...this.#byGfn]) attempt(() => this.#unmap(gfn, mapping));
  }

  /**
   * Lets go of everything. What a guest that goes on still maps must stay where it is, with the domain that owns it.
   * @param attempt runs a step and keeps its failure
   */
  drop(attempt: (run: () => void) => void, guestGoesOn: boolean): void {
    if (guestGoesOn && this.#byGfn.size > 0) this.#xen.hostPages.keep();
    else
      for (const { pins } of this.#byGfn.values()) {
        attempt(() => this.#unpin(pins));
        this.#noteMapping(pins, false);
      }
    this.#byGfn.clear();
  }

  /** A domain that is not ours outlives a kill of this process with what it maps: the next process must know. */
  #noteMapping(pins: readonly Grant[], mapped: boolean): void {
    if (this.#vm.own || pins.length === 0) return;
    if (mapped) this.#xen.journal.guestMaps(this.#domain.domid);
    else this.#xen.journal.guestUnmaps(this.#domain.domid);
  }

  /** The pins go last: a page that the guest still reaches must not be given back. */
  #unmap(gfn: number, mapping: DirectMapping): void {
    this.#unmapRuns(mapping);
    this.#byGfn.delete(gfn);
    this.#noteMapping(mapping.pins, false);
    this.#unpin(mapping.pins);
  }

  /** All of them; the first failure is thrown afterwards. */
  #unpin(pins: readonly Grant[]): void {
    let failure: unknown;
    for (const pin of pins) {
      try {
        this.#xen.hostPages.unpin(pin);
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** All or nothing. */
  #mapRuns(runs: readonly MachineRun[]): void {
    const { xen: calls } = this.#xen;
    const { domid } = this.#domain;
    const permitted: MachineRun[] = [];
    const mapped: MachineRun[] = [];
    try {
      for (const run of runs) {
        this.#domain.check('iomem_permission', calls.iomemPermission(domid, run.mfn, run.nr, true), { gfn: run.gfn, size: run.nr });
        permitted.push(run);
        for (let done = 0, chunk = CHUNK; done < run.nr; ) {
          const part = { gfn: run.gfn + done, mfn: run.mfn + done, nr: Math.min(chunk, run.nr - done) };
          const result = calls.memoryMapping(domid, part.gfn, part.mfn, part.nr, true);
          if (result === -ERRNO.E2BIG && part.nr > 1) {
            chunk = part.nr >> 1;
            continue;
          }
          this.#domain.check('memory_mapping', result, { gfn: part.gfn, size: part.nr });
          mapped.push(part);
          done += part.nr;
        }
      }
    } catch (error) {
      for (const { gfn, mfn, nr } of mapped.reverse()) this.#domain.undo(() => calls.memoryMapping(domid, gfn, mfn, nr, false));
      for (const run of permitted.reverse()) this.#forbid(run);
      throw error;
    }
  }

  /** Takes back the domain's right to machine frames, except those that it still maps elsewhere: the right is not counted. */
  #forbid({ mfn, nr }: MachineRun, mapping?: DirectMapping): void {
    const { xen } = this.#xen;
    const others = this.#all().flatMap((mappings) => [...mappings.#byGfn.values()].filter((other) => other !== mapping));
    const overlapping = others.flatMap(({ runs }) => runs).filter((run) => run.mfn < mfn + nr && mfn < run.mfn + run.nr);
    if (overlapping.length === 0) {
      this.#domain.undo(() => xen.iomemPermission(this.#domain.domid, mfn, nr, false));
      return;
    }
    for (let frame = mfn; frame < mfn + nr; frame++)
      if (!overlapping.some((run) => frame >= run.mfn && frame < run.mfn + run.nr))
        this.#domain.undo(() => xen.iomemPermission(this.#domain.domid, frame, 1, false));
  }

  /** Removes every frame; the first failure is thrown after all were tried. What failed stays among the runs. */
  #unmapRuns(mapping: DirectMapping): void {
    const { xen: calls } = this.#xen;
    const { domid } = this.#domain;
    let failure: { readonly result: number; readonly gfn: number } | undefined;
    for (const run of mapping.runs.splice(0)) {
      for (let done = 0; done < run.nr; done += CHUNK) {
        const part = { gfn: run.gfn + done, mfn: run.mfn + done, nr: Math.min(CHUNK, run.nr - done) };
        const result = calls.memoryMapping(domid, part.gfn, part.mfn, part.nr, false);
        if (result >= 0) {
          this.#forbid(part, mapping);
          continue;
        }
        failure ??= { result, gfn: part.gfn };
        mapping.runs.push(part);
      }
    }
    if (failure === undefined) return;
    this.#domain.fail('memory_mapping', failure.result, { gfn: failure.gfn });
  }
}

/** Joins pinned pages that follow each other in the machine. */
function runsOf(gfn: number, pins: readonly Grant[]): MachineRun[] {
  const runs: { gfn: number; mfn: number; nr: number }[] = [];
  pins.forEach(({ busAddress }, i) => {
    const mfn = busAddress / PAGE_SIZE;
    const last = runs.at(-1);
    if (last !== undefined && last.mfn + last.nr === mfn) last.nr++;
    else runs.push({ gfn: gfn + i, mfn, nr: 1 });
  });
  return runs;
}
