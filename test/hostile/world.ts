/**
 * A device model on the simulation with two VMs: the hostile guest's, and a victim's that goes on working. `apply` does one operation;
 * what must hold then, `violation` looks at.
 */
import { SimBackend } from '../../src/backends/sim/backend.js';
import type { SimHandle } from '../../src/backends/sim/handle.js';
import type { SimMachine } from '../../src/backends/sim/machine.js';
import { Bdf } from '../../src/core/addresses.js';
import type { PageTrackLevel } from '../../src/core/capabilities.js';
import { dispatchRequest } from '../../src/core/gvt/dispatch.js';
import { type Connector, DEFAULT_CONNECTOR } from '../../src/core/gvt/display/connector.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import type { GvtOptions } from '../../src/core/gvt/gvt-options.js';
import { SHADOW_LIMITS } from '../../src/core/gvt/ppgtt/shadow.js';
import { INLINE_BUDGET } from '../../src/core/gvt/submission/submission.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import { IoKind, IoRequest } from '../../src/core/io-request.js';
import { PageFlag } from '../../src/pc/address-space.js';
import { TapedHandle } from '../../src/recording/taped-host.js';
import { deviceMemories } from '../../src/vfio/index.js';
import { displayOperations } from './display.js';
import { AREA, BAR0, BAR2, CANARIES, ENGINE_BASES, ENTRY_HIGH, entryLow, FRAMES, gpaOf, MAPPED_FRAMES, PAGE, RAM } from './layout.js';
import type { Operation } from './operations.js';
import { Victim } from './victim.js';

export type Level = PageTrackLevel | 'none';
export const LEVELS: readonly Level[] = ['trap', 'sync', 'none'];

const TYPE = 'GVTg_V4_8';
const CANARY = 0xa5;
/** Bytes of a context's image from its second frame on: head, tail, start, control, and the root's halves. */
const IMAGE = { HEAD: 0x14, TAIL: 0x1c, START: 0x24, CONTROL: 0x2c, PDP0_HIGH: 0xc4 } as const;
/**
 * Commands that one operation may execute: what an ELSP write does inline, for each of two dwords pairs that a wide store may complete, or
 * a slice. The largest slice asked for is 20,000; each engine and each row of a blit may go over by one command.
 */
const COMMANDS_MAX = Math.max(2 * INLINE_BUDGET, 20_000) + 64;
/** What `write` to a register may start at most in bytes of a context's life; see `violation`. */
const ANNOUNCED_MAX = 65_536;

/** Bits of the reset register, by engine. */
const ENGINE_DOMAINS = [2, 8, 4, 0x10] as const;
/** IMR and IER of the engines' interrupts. */
const INTERRUPT_GROUPS = [0x4_4300, 0x4_4310, 0x4_4330] as const;

export const makeGvt = (backend: SimBackend, options: GvtOptions): Gvt => new Gvt(backend, options);

export type Apply = (...numbers: number[]) => void;

export class World {
  readonly backend: SimBackend;
  readonly gvt: Gvt;
  readonly vm: SimMachine;
  vgpu: Vgpu;
  readonly victim: Victim;
  readonly #request = new IoRequest();
  readonly #time = { ns: 1e9 };
  readonly #operations: Readonly<Record<string, Apply>>;
  #commands = 0;
  readonly #connector: Connector;
  /** Messages over AUX that a monitor answered. */
  auxReplies = 0;

  /** @param make makes the device model in place of its constructor */
  constructor(level: Level, make = makeGvt, connector = DEFAULT_CONNECTOR) {
    this.#connector = connector;
    this.backend = new SimBackend({ pageTrack: level });
    this.gvt = make(this.backend, { now: () => this.#time.ns, memories: deviceMemories, onGuestError: () => {}, switchPaceMs: 1 });
    this.vm = this.backend.createMachine({ ram: [RAM, ...CANARIES] }) as SimMachine;
    for (const { gpa, size } of CANARIES) this.vm.memory.view(gpa, size).fill(CANARY);
    this.vgpu = this.gvt.createVgpu({ type: TYPE, vmId: this.vm.vmId, bdf: Bdf(0x10), connector });
    this.gvt.activate(this.vgpu);
    this.victim = new Victim(this.backend, this.gvt);
    this.#operations = this.#table();
    this.apply(['ready']);
  }

  /** Of the backend; a recording stands before it. */
  get handle(): SimHandle {
    const { handle } = this.vgpu;
    return (handle instanceof TapedHandle ? handle.inner : handle) as SimHandle;
  }

  /** Does one operation. @throws whatever the device model lets through; Error for an operation that does not exist */
  apply([name, ...numbers]: Operation): void {
    const apply = this.#operations[name];
    if (apply === undefined) throw new Error(`there is no operation '${name}'`);
    this.#commands = this.vgpu.statistics.commands;
    apply(...numbers);
  }

  /** What of the bounds does not hold after an operation. */
  violation(): string | undefined {
    const { gvt, vgpu, handle } = this;
    if (gvt.defects > 0) return `a defect: ${(gvt.lastDefect as Error).stack}`;
    const commands = vgpu.statistics.commands - this.#commands;
    if (commands > COMMANDS_MAX) return `one operation executed ${commands} commands, limit ${COMMANDS_MAX}`;
    const { frames } = vgpu.ppgtt.shadow;
    if (frames > SHADOW_LIMITS.TABLES_MAX) return `${frames} tables are shadowed, limit ${SHADOW_LIMITS.TABLES_MAX}`;
    if (vgpu.ppgtt.announced > ANNOUNCED_MAX) return `${vgpu.ppgtt.announced} roots are announced, limit ${ANNOUNCED_MAX}`;
    const ram = this.vm.ram.reduce((pages, { size }) => pages + size / PAGE, 0);
    if (handle.trackedCount > ram) return `${handle.trackedCount} frames are tracked of ${ram}`;
    return undefined;
  }

  /** What is not as it must be when all is over: canaries, the victim, and what is left after the vGPU is destroyed. */
  end(): string | undefined {
    for (const { gpa, size } of CANARIES) {
      const at = this.vm.memory.view(gpa, size).findIndex((byte) => byte !== CANARY);
      if (at >= 0) return `the byte at 0x${(gpa + at).toString(16)} was written, outside the guest's own RAM`;
    }
    const harm = this.victim.harm();
    if (harm !== undefined) return `the victim: ${harm}`;
    const { handle, gvt, vgpu } = this;
    gvt.destroyVgpu(vgpu);
    if (this.vm.pinnedPages !== 0 || handle.trackedCount !== 0)
      return `after its end the vGPU holds ${this.vm.pinnedPages} pages and tracks ${handle.trackedCount}`;
    if (gvt.defects > 0) return `a defect at its end: ${(gvt.lastDefect as Error).stack}`;
    return undefined;
  }

  close(): void {
    this.gvt.destroy();
    this.backend.close();
  }

  // --- what a guest can do --------------------------------------------------------------------------------------------

  #access(write: boolean, address: number, size: number, low = 0, high = 0): number {
    const request = this.#request;
    request.kind = IoKind.MMIO;
    request.write = write;
    request.address = address;
    request.size = size;
    request.value[0] = low;
    request.value[1] = high;
    this.backend.route(this.vm.vmId, request);
    dispatchRequest(this.gvt, request);
    return request.value[0] as number;
  }

  #config(write: boolean, offset: number, size: number, value = 0): void {
    const request = this.#request;
    request.kind = IoKind.PCI_CONFIG;
    request.write = write;
    request.address = offset;
    request.size = size;
    request.bdf = Bdf(0x10);
    request.value[0] = value;
    request.value[1] = 0;
    this.backend.route(this.vm.vmId, request);
    dispatchRequest(this.gvt, request);
  }

  #register(offset: number, value: number, size = 4, high = 0): void {
    this.#access(true, BAR0 + offset, size, value, high);
  }

  /** The CPU of the guest stores to RAM, as the simulation's does it: what tracks the page is told or marked. */
  #store(gpa: number, bytes: readonly number[]): void {
    let reported = false;
    for (let i = 0; i < bytes.length; i++) {
      const mapping = this.vm.space.find(gpa + i);
      if (mapping === undefined) return;
      mapping.bytes[gpa + i - mapping.gpa] = bytes[i] as number;
      const page = Math.floor((gpa + i - mapping.gpa) / PAGE);
      const flags = mapping.flags[page] as number;
      if ((flags & PageFlag.LOG) !== 0) mapping.flags[page] = flags | PageFlag.DIRTY;
      reported ||= (flags & PageFlag.TRAP) !== 0;
    }
    if (!reported) return;
    const request = this.#request;
    request.kind = IoKind.WP;
    request.write = true;
    request.address = gpa;
    request.size = bytes.length;
    request.value.fill(0);
    for (let i = 0; i < bytes.length; i++)
      request.value[i >>> 2] = (request.value[i >>> 2] as number) | ((bytes[i] as number) << ((i & 3) * 8));
    const value = request.value.slice();
    for (let from = this.backend.route(this.vm.vmId, request); from > 0; from = this.backend.route(this.vm.vmId, request, from)) {
      dispatchRequest(this.gvt, request);
      request.value.set(value);
    }
  }

  #storeDwords(gpa: number, ...dwords: readonly number[]): void {
    if (dwords.length > 2) {
      const page = this.vm.space.find(gpa);
      // What nobody watches needs no store by store.
      const watched = page === undefined || page.flags[Math.floor((gpa - page.gpa) / PAGE)] !== 0;
      if (watched) for (let i = 0; i < dwords.length; i += 2) this.#storeDwords(gpa + i * 4, ...dwords.slice(i, i + 2));
      else page.u32.set(dwords, (gpa - page.gpa) >> 2);
      return;
    }
    this.#store(
      gpa,
      dwords.flatMap((dword) => [dword & 0xff, (dword >>> 8) & 0xff, (dword >>> 16) & 0xff, dword >>> 24]),
    );
  }

  /** The same entry in several kinds of stores: whole, either half, both halves, a byte, unaligned. */
  #storeEntry(gpa: number, low: number, high: number, how: number): void {
    if (how === 1) this.#storeDwords(gpa, low);
    else if (how === 2) this.#storeDwords(gpa + 4, high);
    else if (how === 3) {
      this.#storeDwords(gpa, low);
      this.#storeDwords(gpa + 4, high);
    } else if (how === 4) this.#store(gpa + 1, [low & 0xff]);
    else if (how === 5) this.#storeDwords(gpa + 6, low, high);
    else this.#storeDwords(gpa, low, high);
  }

  get #aperture(): number {
    return this.vgpu.resources.aperture.start;
  }

  #imageOf(context: number): number {
    return gpaOf(AREA.CONTEXTS[0] + context * 2 + 1);
  }

  #elsp(engine: number, dwords: readonly number[]): void {
    for (const dword of dwords) this.#register((ENGINE_BASES[engine] as number) + 0x230, dword);
  }

  #table(): Readonly<Record<string, Apply>> {
    const { gvt } = this;
    const view = () => gvt.view(this.vgpu);
    const table: Record<string, Apply> = {
      read: (offset = 0, size = 4) => void this.#access(false, BAR0 + offset, size),
      write: (offset = 0, size = 4, low = 0, high = 0) => this.#register(offset, low, size, high),
      access: (write = 0, address = 0, size = 4, value = 0) => void this.#access(write === 1, address, size, value),
      aperture: (write = 0, offset = 0, size = 4, low = 0, high = 0) =>
        void this.#access(write === 1, BAR2 + this.#aperture + offset, size, low, high),
      'config-read': (offset = 0, size = 4) => this.#config(false, offset, size),
      'config-write': (offset = 0, size = 4, value = 0) => this.#config(true, offset, size, value),
      'move-bar': (bar = 0, low = 0, high = 0) => {
        this.#config(true, 0x10 + bar * 4, 4, low);
        this.#config(true, 0x14 + bar * 4, 4, high);
      },
      ggtt: (page = 0, low = 0, high = 0, how = 0) => {
        const at = 0x80_0000 + (this.#aperture / PAGE + page) * 8;
        if (how < 2) this.#register(at, low, 8, high);
        if (how > 1) this.#register(at, low);
        if (how === 3) this.#register(at + 4, high);
      },
      entry: (table = 0, index = 0, low = 0, high = 0, how = 0) => this.#storeEntry(gpaOf(table) + index * 8, low, high, how),
      context: (context = 0, offset = 0, value = 0) => this.#storeDwords(this.#imageOf(context) + offset, value),
      root: (context = 0, frame = 0, pointer = 0) => {
        const at = this.#imageOf(context) + IMAGE.PDP0_HIGH - pointer * 16;
        this.#storeDwords(at, ENTRY_HIGH);
        this.#storeDwords(at + 8, entryLow(frame, 0));
      },
      commands: (frame = 0, at = 0, ...dwords) => {
        this.#storeDwords(gpaOf(frame) + at * 4, ...dwords.slice(0, Math.max(0, 1024 - at)));
      },
      submit: (engine = 0, context = 0, mode = 3, head = 0, tail = 0, second = -1) => {
        const image = this.#imageOf(context);
        this.#storeDwords(image + IMAGE.HEAD, head);
        this.#storeDwords(image + IMAGE.TAIL, tail);
        const descriptor = (index: number): number[] => [
          index + 1,
          this.#aperture + (AREA.CONTEXTS[0] + index * 2) * PAGE + 0x101 + mode * 8,
        ];
        this.#elsp(engine, [...(second < 0 ? [0, 0] : descriptor(second)), ...descriptor(context)]);
      },
      run: (engine = 0, context = 0, perProcess = 0, batch = 0, ...dwords) => {
        // As a driver does: an engine that hangs is reset, a ring that is done begins anew.
        if (this.vgpu.submission.hung(engine as 0) !== undefined) this.#operations.reset?.(ENGINE_DOMAINS[engine] as number);
        const frame = AREA.BATCHES[0] + batch;
        this.#operations.commands?.(frame, 0, ...dwords);
        const at = perProcess === 1 ? 2 ** 21 + batch * PAGE : this.#aperture + frame * PAGE;
        this.#operations.commands?.(AREA.RINGS[0] + context, 0, 0x1880_0001 + perProcess * 0x100, at, 0, 0x0100_0000, 0, 0);
        this.#operations.submit?.(engine, context, context % 2 === 0 ? 3 : 1, 0, 24);
      },
      elsp: (engine = 0, ...dwords) => this.#elsp(engine, dwords),
      notify: (code = 0, ...frames) => {
        frames.forEach((frame, i) => {
          this.#register(0x7_8838 + i * 8, entryLow(frame, 0));
          this.#register(0x7_883c + i * 8, ENTRY_HIGH);
        });
        this.#register(0x7_8818, code);
      },
      reset: (mask = 0) => {
        this.#register(0x941c, mask);
        for (const base of ENGINE_BASES) {
          this.#register(base + 0x3a0, 0xffff_0505);
          this.#register(base + 0x29c, 0x8000_8000);
        }
      },
      'device-reset': (by = 0) => {
        if (by === 0) view().reset();
        else gvt.reset(this.vgpu);
      },
      slice: (budget = 0) => gvt.runSlice(budget),
      time: (ms = 0) => {
        this.#time.ns += ms * 1e6;
        gvt.runSlice(64);
      },
      ...displayOperations({
        gvt,
        vgpu: () => this.vgpu,
        connector: this.#connector,
        register: (offset, value) => this.#register(offset, value),
        read: (offset) => this.#access(false, BAR0 + offset, 4),
        auxAnswered: () => void this.auxReplies++,
      }),
      vfio: (region = 0, offset = 0, length = 0, write = 0, byte = 0) => {
        const bytes = new Uint8Array(length).fill(byte);
        if (write === 1) view().write(region, offset, bytes);
        else view().read(region, offset, bytes);
      },
      active: (on = 1) => (on === 1 ? gvt.activate(this.vgpu) : gvt.deactivate(this.vgpu)),
      unmapped: () => gvt.memoryUnmapped(this.vgpu.id),
      save: () => this.#save(),
      ready: () => this.#ready(),
    };
    return table;
  }

  /** The vGPU is saved, destroyed and restored; saved again at once it must be the same document. */
  #save(): void {
    const { gvt, vgpu } = this;
    const { active } = vgpu;
    const document = gvt.saveVgpu(vgpu);
    gvt.destroyVgpu(vgpu);
    this.vgpu = gvt.restoreVgpu({ vmId: this.vm.vmId, bdf: Bdf(0x10) }, document);
    const again = gvt.saveVgpu(this.vgpu);
    if (Buffer.compare(document, again) !== 0) throw new Error('the restored vGPU is saved as another document');
    if (active) gvt.activate(this.vgpu);
  }

  /** What a driver does at start, so that what follows reaches the engines: BARs, GGTT, page tables, contexts, rings. */
  #ready(): void {
    const { gvt, vgpu } = this;
    if (vgpu.failsafe) gvt.reset(vgpu);
    gvt.activate(vgpu);
    this.#config(true, 0x04, 2, 0);
    for (const [bar, address] of [
      [0x10, BAR0],
      [0x18, BAR2],
    ] as const) {
      this.#config(true, bar, 4, address);
      this.#config(true, bar + 4, 4, 0);
    }
    this.#config(true, 0x04, 2, 6);
    for (const [offset, value] of [
      [0x94, 0xfee0_0000],
      [0x98, 0x41],
      [0x90 + 2, 1],
    ] as const)
      this.#config(true, offset, offset === 0x92 ? 2 : 4, value);
    this.#access(false, BAR0 + 0x7_8000, 8);
    const entries = 0x80_0000 + (this.#aperture / PAGE) * 8;
    for (let frame = 0; frame < MAPPED_FRAMES; frame++) this.#register(entries + frame * 8, entryLow(frame, 1), 8, ENTRY_HIGH);
    ENGINE_BASES.forEach((base, engine) => {
      this.#register(base + 0x80, this.#aperture + (AREA.STATUS[0] + engine) * PAGE);
      this.#register(base + 0x29c, 0x8000_8000);
      this.#register(base + 0xa8, 0);
    });
    for (const group of INTERRUPT_GROUPS) {
      this.#register(group + 4, 0);
      this.#register(group + 12, 0xffff_ffff);
    }
    this.#register(0x4_4200, 0x8000_0000);
    this.#tables();
    for (let context = 0; context < AREA.CONTEXTS[1]; context++) {
      const image = this.#imageOf(context);
      this.#storeDwords(image + IMAGE.START, this.#aperture + (AREA.RINGS[0] + context) * PAGE);
      this.#storeDwords(image + IMAGE.CONTROL, 1);
      this.#operations.root?.(context, AREA.TABLES[0] + (context % 2 === 0 ? 0 : 2), 0);
    }
  }

  /** One PML4, one page directory pointer table, page directories and tables: data, batches, tables, a 2 MiB page, 64 KiB pages. */
  #tables(): void {
    const [first] = AREA.TABLES;
    const put = (table: number, index: number, frame: number, bits: number): void =>
      this.#storeDwords(gpaOf(first + table) + index * 8, entryLow(frame, bits), ENTRY_HIGH);
    put(0, 0, first + 1, 3);
    put(1, 0, first + 2, 3);
    put(1, 1, first + 3, 3);
    for (let pd = 0; pd < 6; pd++) put(2, pd, first + 4 + (pd % 4), pd === 5 ? 0x803 : 3);
    put(2, 6, AREA.HUGE[0], 0x83);
    put(3, 0, first + 4, 3);
    for (let page = 0; page < 16; page++) {
      put(4, page, AREA.DATA[0] + page, 3);
      put(5, page, AREA.BATCHES[0] + page, 1);
      put(6, page, page % 4 === 3 ? FRAMES - 1 : AREA.DATA[0] + 16 + page, 3);
      put(7, page, first + page, 3);
    }
  }
}
