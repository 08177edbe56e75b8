/** The smallest backend that the device model runs on: one VM's RAM in an array, everything else recorded. */

import { DmaAddress, Gfn, type Gpa, type Hva, Mfn, VmId } from '../../src/core/addresses.js';
import type { Capabilities } from '../../src/core/capabilities.js';
import { DmaBlock } from '../../src/core/dma-block.js';
import { MptError } from '../../src/core/errors.js';
import { GuestRam, mapRegion } from '../../src/core/guest-ram.js';
import { type Connector, DEFAULT_CONNECTOR } from '../../src/core/gvt/display/connector.js';
import { Gvt, type GvtOptions } from '../../src/core/gvt/gvt.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import type { VgpuAttachment } from '../../src/core/mpt.js';
import { MptBackend } from '../../src/core/mpt-backend.js';
import { MptHandle } from '../../src/core/mpt-handle.js';

export const VM = VmId(7);
export const RAM_BYTES = 0x80_0000;
/** A second, small region, where a BAR can be put on top of it. */
export const HIGH_RAM = 0x2000_0000;
/** DMA addresses differ from guest-physical ones by this, so that a mix-up shows. */
export const DMA_BASE = 0x40_0000_0000;

const CAPABILITIES: Capabilities = {
  pageTrack: 'trap',
  mapGfnToMfn: false,
  setTrapArea: true,
  barAccess: false,
  wholeBus: true,
  setPvmmio: false,
  dom0Ready: false,
  setOpregion: false,
  setEdid: false,
  vfioDevice: false,
  isValidGfn: true,
  dmaPin: false,
  dmaHugePage: false,
  hostPages: false,
  machine: false,
  foreignVm: false,
  msiEventfd: false,
};

export class MemoryBackend extends MptBackend {
  readonly name = 'memory';
  readonly version = '1';
  readonly capabilities: Capabilities;
  readonly ram = new GuestRam([mapRegion(0, new Uint8Array(RAM_BYTES)), mapRegion(HIGH_RAM, new Uint8Array(0x1_0000))]);
  readonly msis: [address: number, data: number][] = [];
  readonly traps = new Map<number, number>();
  readonly tracked = new Set<number>();
  readonly mapped = new Map<number, number>();
  /** Whether pages lie in blocks, as on KVM, or each has a view of its own, as on Xen. */
  blocks = false;
  readonly #block = new DmaBlock(DMA_BASE, (this.ram.regions[0] as { bytes: Uint8Array }).bytes);
  /** Operations that fail with HYPERVISOR. */
  readonly broken = new Set<string>();

  constructor(capabilities: Partial<Capabilities> = {}) {
    super();
    this.capabilities = { ...CAPABILITIES, ...capabilities };
  }

  /** Guest RAM as dwords. */
  get words(): Uint32Array {
    return (this.ram.regions[0] as { u32: Uint32Array }).u32;
  }

  /** The VM is destroyed. */
  end(): void {
    this.vmGone(VM);
  }

  blockAt(address: number): DmaBlock | undefined {
    return this.blocks && address - DMA_BASE < RAM_BYTES ? this.#block : undefined;
  }

  fail(op: string): void {
    if (this.broken.has(op)) throw new MptError('HYPERVISOR', 'refused by the test', { errno: 5 });
  }

  protected override doHasVm(vmId: VmId): boolean {
    return vmId === VM;
  }

  protected override doAttachVgpu(vgpu: VgpuAttachment): MptHandle {
    this.fail('attach');
    return new MemoryHandle(this, vgpu);
  }

  protected override doFromVirtToMfn(hva: Hva): Mfn {
    return Mfn(Math.floor(hva / 4096));
  }

  protected override doClose(): void {}
}

class MemoryHandle extends MptHandle {
  /** Tracked frames as they were when last looked at (level `sync`). */
  readonly #snapshots = new Map<number, Uint8Array>();

  get #memory(): MemoryBackend {
    return this.backend as MemoryBackend;
  }

  protected override doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void {
    this.#memory.ram.read(gpa, target, offset, length);
  }

  protected override doWriteGpa(gpa: Gpa, source: Uint8Array, offset: number, length: number): void {
    this.#memory.ram.write(gpa, source, offset, length);
  }

  protected override doIsValidGfn(gfn: Gfn): boolean {
    return this.#memory.ram.covers(gfn * 4096, 4096);
  }

  protected override doInjectMsi(address: number, data: number): void {
    this.#memory.fail('msi');
    this.#memory.msis.push([address, data]);
  }

  protected override doGfnToMfn(gfn: Gfn): Mfn {
    return Mfn(gfn + DMA_BASE / 4096);
  }

  protected override doDmaMap(gfn: Gfn, size: number): DmaAddress {
    this.#memory.fail('dma');
    this.#memory.ram.view(gfn * 4096, size);
    const address = DMA_BASE + gfn * 4096;
    this.#memory.mapped.set(address, size);
    return DmaAddress(address);
  }

  protected override doDmaUnmap(_gfn: Gfn, _size: number, address: DmaAddress): void {
    this.#memory.mapped.delete(address);
  }

  protected override doDmaView(address: DmaAddress, length: number): Uint8Array {
    return this.#memory.ram.view(address - DMA_BASE, length);
  }

  protected override doDmaBlock(address: DmaAddress): DmaBlock | undefined {
    return this.#memory.blockAt(address);
  }

  protected override doOverlapsRam(start: Gpa, end: Gpa): boolean {
    return this.#memory.ram.touches(start, end);
  }

  protected override doSetTrapArea(start: Gpa, end: Gpa, map: boolean): void {
    this.#memory.fail('trap');
    if (map) this.#memory.traps.set(start, end);
    else this.#memory.traps.delete(start);
  }

  protected override doEnablePageTrack(gfn: Gfn): void {
    this.#memory.ram.view(gfn * 4096, 4096);
    this.#memory.fail('track');
    this.#memory.tracked.add(gfn);
    if (this.#memory.capabilities.pageTrack === 'sync') this.#snapshots.set(gfn, this.#memory.ram.view(gfn * 4096, 4096).slice());
  }

  protected override doSyncPageTrack(written: (gfn: Gfn) => void): void {
    for (const [gfn, snapshot] of [...this.#snapshots]) {
      const bytes = this.#memory.ram.view(gfn * 4096, 4096);
      if (Buffer.compare(bytes, snapshot) === 0) continue;
      snapshot.set(bytes);
      written(gfn as Gfn);
    }
  }

  protected override doDisablePageTrack(gfn: Gfn): void {
    this.#memory.tracked.delete(gfn);
    this.#snapshots.delete(gfn);
  }
}

/** Where the tests put the BARs. */
export const BAR0 = 0xe000_0000;
export const BAR2 = 0xc000_0000;

/** A device model on a fresh backend, its clock at the test's hand, with one vGPU: active, BARs placed, memory decoded. */
export interface Fixture {
  readonly backend: MemoryBackend;
  readonly gvt: Gvt;
  readonly vgpu: Vgpu;
  readonly time: { ns: number };
  /** Messages about guest mistakes. */
  readonly mistakes: string[];
  configRead(offset: number, size: number): number;
  configWrite(offset: number, size: number, value: number): number;
  /** Accesses at byte offsets of BAR0. */
  read(offset: number, size?: number): number;
  read64(offset: number): [number, number];
  write(offset: number, value: number, size?: number): number;
  write64(offset: number, low: number, high: number): number;
  /** Maps guest frames from `gfn` on at a GGTT address. */
  map(address: number, gfn: number, count?: number): void;
  /** The GPU uses the pages, which are then mapped for DMA. */
  use(address: number, count?: number): void;
}

export function fixture(
  options: GvtOptions & {
    capabilities?: Partial<Capabilities>;
    type?: string;
    placed?: boolean;
    display?: boolean;
    connector?: Connector;
    /** Makes the device model in place of its constructor. */
    make?: (backend: MemoryBackend, options: GvtOptions) => Gvt;
  } = {},
): Fixture {
  const {
    capabilities = {},
    type = 'GVTg_V4_8',
    placed = true,
    display = true,
    connector = DEFAULT_CONNECTOR,
    make,
    ...gvtOptions
  } = options;
  const backend = new MemoryBackend(capabilities);
  const time = { ns: 1e9 };
  const mistakes: string[] = [];
  const all = { now: () => time.ns, onGuestError: (_id: number, what: string) => mistakes.push(what), ...gvtOptions };
  const gvt = make === undefined ? new Gvt(backend, all) : make(backend, all);
  const vgpu = gvt.createVgpu({ type, vmId: VM, display, connector });
  gvt.activate(vgpu);
  const value = new Uint32Array(2);
  const { id } = vgpu;
  const at = (offset: number): Gpa => (BAR0 + offset) as Gpa;
  const set = (low: number, high = 0): Uint32Array => {
    value[0] = low;
    value[1] = high;
    return value;
  };
  const expectOk = (status: number, what: string): void => {
    if (status !== 0) throw new Error(`${what}: status ${status}`);
  };
  const self: Fixture = {
    backend,
    gvt,
    vgpu,
    time,
    mistakes,
    configRead(offset, size) {
      expectOk(gvt.emulateCfgRead(id, offset, set(0xdead_beef, 0xdead_beef), size), `cfg read ${offset}`);
      return value[0] as number;
    },
    configWrite: (offset, size, data) => gvt.emulateCfgWrite(id, offset, set(data), size),
    read(offset, size = 4) {
      expectOk(gvt.emulateMmioRead(id, at(offset), set(0xdead_beef, 0xdead_beef), size), `read 0x${offset.toString(16)}`);
      return value[0] as number;
    },
    read64(offset) {
      expectOk(gvt.emulateMmioRead(id, at(offset), set(0xdead_beef, 0xdead_beef), 8), `read 0x${offset.toString(16)}`);
      return [value[0] as number, value[1] as number];
    },
    write: (offset, data, size = 4) => gvt.emulateMmioWrite(id, at(offset), set(data), size),
    write64: (offset, low, high) => gvt.emulateMmioWrite(id, at(offset), set(low, high), 8),
    use(address, count = 1) {
      for (let i = 0; i < count; i++) self.vgpu.ggtt.page(address + i * 4096);
    },
    map(address, gfn, count = 1) {
      for (let i = 0; i < count; i++) expectOk(self.write64(0x80_0000 + (address / 4096 + i) * 8, ((gfn + i) * 4096) | 1, 0), 'map');
    },
  };
  if (placed) {
    self.configWrite(0x10, 4, BAR0);
    self.configWrite(0x18, 4, BAR2);
    self.configWrite(0x04, 2, 2);
  }
  return self;
}

/** Reproducible 32-bit numbers (xorshift). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

export const gfn = Gfn;
