/** The roles that submission and engine take, as small fakes: GPU memory of plain pages with holes, registers, a trace. */
import { PageView } from '../../src/core/gvt/gpu-page.js';
import {
  ENGINES,
  type EngineId,
  type GpuMemory,
  type GpuPage,
  type GvtEvent,
  newStatistics,
  type RegisterPort,
} from '../../src/core/gvt/roles.js';
import { Schedule } from '../../src/core/gvt/scheduler/schedule.js';
import { Submission, type SubmissionParts } from '../../src/core/gvt/submission/submission.js';
import type { SwitchPacing } from '../../src/core/gvt/submission/switch-events.js';
import type { VgpuTrace } from '../../src/core/gvt/trace/vgpu-trace.js';
import { Status } from '../../src/core/gvt-ops.js';

export const PAGE = 4096;

/** Pages where the test mapped them; nothing between. */
export class PlainMemory implements GpuMemory {
  readonly #pages = new Map<number, GpuPage>();
  /** Times that each page was copied from, by address. */
  readonly copies = new Map<number, number>();
  /** Called after each copy: the guest changes its memory between two looks. */
  onCopy: ((address: number) => void) | undefined;

  map(address: number, count = 1): void {
    for (let i = 0; i < count; i++) this.put(address + i * PAGE, new Uint8Array(PAGE));
  }

  put(address: number, bytes: Uint8Array): void {
    this.putPage(address, PageView.of(bytes));
  }

  putPage(address: number, page: GpuPage): void {
    if (address % PAGE !== 0) throw new Error('not a page');
    this.#pages.set(address / PAGE, page);
  }

  unmap(address: number): void {
    this.#pages.delete(address / PAGE);
  }

  page(address: number): GpuPage | undefined {
    return this.#pages.get(Math.floor(address / PAGE));
  }

  shows(address: number): boolean {
    return this.page(address) !== undefined;
  }

  pageToWrite(address: number): GpuPage | undefined {
    return this.page(address);
  }

  /** No page follows another. */
  run(_first: GpuPage, address: number, length: number): number {
    return Math.min(length, PAGE - (address % PAGE));
  }

  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      const from = address + done;
      const page = this.page(from);
      if (page === undefined) return false;
      const at = from % PAGE;
      const piece = Math.min(length - done, PAGE - at);
      page.load(at, target, offset + done, piece);
      this.copies.set(from - at, (this.copies.get(from - at) ?? 0) + 1);
      done += piece;
    }
    this.onCopy?.(address);
    return true;
  }

  /** Stores dwords, across pages. */
  write(address: number, ...values: number[]): void {
    values.forEach((value, i) => {
      const at = address + i * 4;
      this.page(at)?.store32(at % PAGE, value);
    });
  }

  read(address: number): number {
    return (this.page(address) as GpuPage).load32(address % PAGE);
  }

  /** A quadword as its two dwords. */
  read64(address: number): [number, number] {
    return [this.read(address), this.read(address + 4)];
  }
}

/** Registers as commands see them: one that refuses, one past the end, a clock, storage. */
export const REFUSED = 0x1_0000;
export const TIMESTAMP_LOW = 0x1234_5678;
export const TIMESTAMP_HIGH = 0x9a;

export const ENGINE_BASES = [0x2000, 0x2_2000, 0x1_2000, 0x1_a000] as const;
export const [RCS, BCS, VCS, VECS] = [0, 1, 2, 3] as const satisfies readonly EngineId[];

/** Where the rig puts things. */
export const CONTEXTS = 0x0800_0000;
export const RINGS = 0x0810_0000;
export const STATUS_PAGES = 0x0820_0000;
export const BATCH = 0x0830_0000;
export const DATA = 0x0840_0000;

export interface Rig {
  readonly memory: PlainMemory;
  readonly submission: Submission;
  readonly parts: SubmissionParts;
  /** Everything that happened, in order: events, stores that spies saw. */
  readonly trace: string[];
  readonly log: string[];
  /** Engines that stopped, by name. */
  hung(): string[];
  /** Per-process memory: that of every root, which is asked for by the spaces seen. */
  readonly process: PlainMemory;
  /** Roots that were asked for: 48-bit or not, and the frames of their directories. */
  readonly roots: [wide: boolean, directories: number[]][];
  /** Registers that commands wrote. */
  readonly loaded: [offset: number, value: number][];
  register(offset: number): number;
  setRegister(offset: number, value: number): void;
  /** Makes a context's image and ring of `pages`; commands come by `emit`. @returns its descriptor's dwords, low first */
  context(id: number, pages?: number): [number, number];
  /** Appends commands to a context's ring and moves the tail in its image, wrapping at the end. */
  emit(id: number, ...commands: number[]): void;
  ring(id: number): { readonly image: number; readonly start: number; tail: number };
  /** Writes the port: element 0, then element 1 or none. @returns the status of the last dword */
  submit(engine: EngineId, first: readonly [number, number], second?: readonly [number, number]): number;
  /** Status entries in the registers since the last call, at most five, oldest first: [status, id]. */
  entries(engine: EngineId): [number, number][];
}

export const descriptor = (lrca: number, id: number): [number, number] => [lrca | (1 << 8) | (1 << 3) | 1, id];

/** All engines enabled, each with a status page, nothing masked, contexts and data pages mapped as tests ask. @param watched sees what happens */
export function rig(pacing?: SwitchPacing, watched?: VgpuTrace): Rig {
  const memory = new PlainMemory();
  const trace: string[] = [];
  const log: string[] = [];
  const process = new PlainMemory();
  const roots: [boolean, number[]][] = [];
  const loaded: [number, number][] = [];
  const words = new Uint32Array(0x20_0000 / 4);
  const registers = {
    get: (offset: number) => words[offset >>> 2] as number,
    set: (offset: number, value: number) => {
      words[offset >>> 2] = value;
    },
  };
  const commands: RegisterPort = {
    writeFromCommand(offset, value, privileged) {
      if (offset + 4 > 0x20_0000) return privileged ? Status.EFAULT : Status.OK;
      if (offset === REFUSED) return privileged ? Status.EBADRQC : Status.OK;
      loaded.push([offset, value]);
      registers.set(offset, value);
      return Status.OK;
    },
    readFromCommand(offset) {
      if ((offset & 0xfff) === 0x358) return TIMESTAMP_LOW;
      if ((offset & 0xfff) === 0x35c) return TIMESTAMP_HIGH;
      return registers.get(offset);
    },
  };
  const statistics = newStatistics();
  const parts: SubmissionParts = {
    registers,
    commands,
    memory,
    processes: {
      space({ wide, directories }) {
        roots.push([wide, Array.from(directories)]);
        return process;
      },
      synchronise: () => {},
      takeCost: () => 0,
    },
    events: { raise: (event: GvtEvent) => void trace.push(event), hold: () => {}, release: () => {} },
    turns: new Schedule({ now: () => 0 }).join(1, 1, statistics),
    statistics,
    trace: watched,
    log: { guestError: (what) => void log.push(what) },
    pacing,
  };
  const submission = new Submission(parts);
  const seen = [0, 0, 0, 0];
  for (const [id, base] of ENGINE_BASES.entries()) {
    submission.setEnabled(id as EngineId, true);
    const page = STATUS_PAGES + id * PAGE;
    memory.map(page);
    registers.set(base + 0x80, page);
  }
  const rings = new Map<number, { image: number; start: number; size: number; tail: number }>();
  const ringOf = (id: number) => {
    const ring = rings.get(id);
    if (ring === undefined) throw new Error(`no context ${id}`);
    return ring;
  };
  return {
    memory,
    submission,
    parts,
    trace,
    log,
    hung: () => ENGINES.filter(({ id }) => submission.hung(id) !== undefined).map(({ name }) => name),
    process,
    roots,
    loaded,
    register: registers.get,
    setRegister: registers.set,
    context(id, pages = 1) {
      const image = CONTEXTS + id * 0x2000;
      const start = RINGS + id * 0x1_0000;
      memory.map(image, 2);
      memory.map(start, pages);
      rings.set(id, { image, start, size: pages * PAGE, tail: 0 });
      memory.write(image + PAGE + 0x14, 0);
      memory.write(image + PAGE + 0x1c, 0);
      memory.write(image + PAGE + 0x24, start);
      memory.write(image + PAGE + 0x2c, ((pages - 1) << 12) | 1);
      return descriptor(image, id);
    },
    emit(id, ...commands) {
      const ring = ringOf(id);
      for (const dword of commands) {
        memory.write(ring.start + ring.tail, dword);
        ring.tail = (ring.tail + 4) % ring.size;
      }
      memory.write(ring.image + PAGE + 0x1c, ring.tail);
    },
    ring: ringOf,
    submit(engine, first, second = [0, 0]) {
      for (const dword of [second[1], second[0], first[1]]) {
        const status = submission.writeElsp(engine, dword);
        if (status !== Status.OK) throw new Error(`dword ${dword}: status ${status}`);
      }
      return submission.writeElsp(engine, first[0]);
    },
    entries(engine) {
      const found: [number, number][] = [];
      const write = submission.readCsbPointer(engine) & 7;
      for (let slot = seen[engine] as number; write !== 7 && slot !== (write + 1) % 6; slot = (slot + 1) % 6)
        found.push([submission.readCsb(engine, slot * 2), submission.readCsb(engine, slot * 2 + 1)]);
      seen[engine] = write === 7 ? 0 : (write + 1) % 6;
      return found;
    },
  };
}

// --- Commands -------------------------------------------------------------------------------------------------------

export const NOOP = 0;
export const USER_INTERRUPT = 0x0100_0000;
export const BATCH_END = 0x0500_0000;
const high = (address: number): number => Math.floor(address / 2 ** 32);
const low = (address: number): number => address % 2 ** 32;
/** MI_STORE_DATA_IMM of a dword to the GGTT. */
export const storeDword = (address: number, value: number): number[] => [0x1040_0002, low(address), high(address), value];
export const batchStart = (address: number, bits = 0): number[] => [(0x1880_0001 | bits) >>> 0, low(address), high(address)];
