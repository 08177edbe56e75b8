/**
 * The smallest backend: every `do…` method notes its call and can be made to fail. It shows what the base classes do by
 * themselves.
 */
import { DmaAddress, type Gfn, type Gpa, Hva, Mfn, PAGE_SIZE, type VmId } from '../../src/core/addresses.js';
import type { Capabilities } from '../../src/core/capabilities.js';
import type { GvtOps } from '../../src/core/gvt-ops.js';
import { IoRequest } from '../../src/core/io-request.js';
import type { Machine, MachineSpec } from '../../src/core/machine.js';
import type { HostPages, VgpuAttachment } from '../../src/core/mpt.js';
import { MptBackend } from '../../src/core/mpt-backend.js';
import { DEFAULT_LIMITS, type HandleLimits, MptHandle } from '../../src/core/mpt-handle.js';

export const EVERYTHING: Capabilities = {
  pageTrack: 'trap',
  mapGfnToMfn: true,
  setTrapArea: true,
  barAccess: false,
  wholeBus: true,
  setPvmmio: true,
  dom0Ready: true,
  setOpregion: true,
  setEdid: true,
  vfioDevice: true,
  isValidGfn: true,
  dmaPin: true,
  dmaHugePage: true,
  hostPages: true,
  machine: true,
  foreignVm: true,
  msiEventfd: true,
};

export const NOTHING: Capabilities = Object.freeze(
  Object.fromEntries(Object.keys(EVERYTHING).map((name) => [name, name === 'pageTrack' ? null : false])),
) as unknown as Capabilities;

/** Frames of guest RAM that the fake pretends to have, from gfn 0. */
export const RAM_FRAMES = 2048;
/** VMs that exist. */
export const VMS: readonly number[] = [1, 2];

export class FakeBackend extends MptBackend {
  readonly name = 'fake';
  readonly version = '1';
  readonly capabilities: Readonly<Capabilities>;
  readonly limits: HandleLimits;
  /** `do…` calls, as `name` or `name argument argument`. */
  readonly log: string[] = [];
  /** What the named `do…` method throws, every time. */
  readonly failures = new Map<string, unknown>();

  constructor(capabilities: Capabilities = EVERYTHING, limits: Partial<HandleLimits> = {}) {
    super();
    this.capabilities = capabilities;
    this.limits = { ...DEFAULT_LIMITS, ...limits };
  }

  note(name: string, ...args: unknown[]): void {
    this.log.push([name, ...args].join(' '));
    if (this.failures.has(name)) throw this.failures.get(name);
  }

  /** What was logged since the last call. */
  taken(): string[] {
    return this.log.splice(0);
  }

  /** The VM is destroyed from outside. */
  killVm(vmId: VmId): void {
    this.vmGone(vmId);
  }

  protected override doHostInit(_ops: GvtOps): void {
    this.note('doHostInit');
  }
  protected override doHostExit(): void {
    this.note('doHostExit');
  }
  protected override doHasVm(vmId: VmId): boolean {
    return VMS.includes(vmId);
  }
  protected override doAttachVgpu(vgpu: VgpuAttachment): MptHandle {
    this.note('doAttachVgpu', vgpu.id);
    return new FakeHandle(this, vgpu);
  }
  protected override doFromVirtToMfn(hva: Hva): Mfn {
    this.note('doFromVirtToMfn');
    return Mfn(Math.floor(hva / PAGE_SIZE));
  }
  protected override doDom0Ready(): void {
    this.note('doDom0Ready');
  }
  protected override doAllocateHostPages(count: number): HostPages {
    this.note('doAllocateHostPages', count);
    return hostPages(count);
  }
  protected override doCreateMachine(spec: MachineSpec): Machine {
    this.note('doCreateMachine', ...spec.ram.map(({ gpa }) => gpa));
    return {} as Machine;
  }
  protected override doClose(): void {
    this.note('doClose');
  }
}

export const hostPages = (count: number): HostPages => ({
  mfn: Mfn(0x9000),
  hva: Hva(0x9000 * PAGE_SIZE),
  count,
  bytes: new Uint8Array(count * PAGE_SIZE),
  release() {},
});

export class FakeHandle extends MptHandle {
  readonly #fake: FakeBackend;
  readonly memory = new Uint8Array(PAGE_SIZE);
  /** Frames that `syncPageTrack` finds written. */
  written: number[] = [];

  constructor(backend: FakeBackend, vgpu: VgpuAttachment) {
    super(backend, vgpu, backend.limits);
    this.#fake = backend;
  }

  protected override doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void {
    this.#fake.note('doReadGpa', gpa, offset, length);
    target.fill(0x11, offset, offset + length);
  }
  protected override doWriteGpa(gpa: Gpa, _source: Uint8Array, offset: number, length: number): void {
    this.#fake.note('doWriteGpa', gpa, offset, length);
  }
  protected override doIsValidGfn(gfn: Gfn): boolean {
    this.#fake.note('doIsValidGfn', gfn);
    return gfn < RAM_FRAMES;
  }
  protected override doInjectMsi(address: number, data: number): void {
    this.#fake.note('doInjectMsi', address, data);
  }
  protected override doArmMsi(address: number, data: number): number {
    this.#fake.note('doArmMsi', address, data);
    return 77;
  }
  protected override doGfnToMfn(gfn: Gfn): Mfn {
    this.#fake.note('doGfnToMfn', gfn);
    return Mfn(gfn + 0x100);
  }
  protected override doDmaMap(gfn: Gfn, size: number): DmaAddress {
    this.#fake.note('doDmaMap', gfn, size);
    return DmaAddress((gfn + 0x100) * PAGE_SIZE);
  }
  protected override doDmaUnmap(gfn: Gfn, size: number): void {
    this.#fake.note('doDmaUnmap', gfn, size);
  }
  protected override doDmaView(address: DmaAddress, length: number): Uint8Array {
    this.#fake.note('doDmaView', address, length);
    return this.memory.subarray(0, length);
  }
  protected override doOverlapsRam(start: Gpa, _end: Gpa): boolean {
    this.#fake.note('doOverlapsRam');
    return start < RAM_FRAMES * PAGE_SIZE;
  }
  protected override doDetach(): void {
    this.#fake.note('doDetach');
  }
  protected override doEnablePageTrack(gfn: Gfn): void {
    this.#fake.note('doEnablePageTrack', gfn);
  }
  protected override doDisablePageTrack(gfn: Gfn): void {
    this.#fake.note('doDisablePageTrack', gfn);
  }
  protected override doSyncPageTrack(written: (gfn: Gfn) => void): void {
    this.#fake.note('doSyncPageTrack');
    for (const gfn of this.written.splice(0)) written(gfn as Gfn);
  }
  protected override doSetTrapArea(start: Gpa, end: Gpa, map: boolean): void {
    this.#fake.note('doSetTrapArea', start, end, map);
  }
  protected override doMapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void {
    this.#fake.note('doMapGfnToMfn', gfn, mfn, nr, map);
  }
  protected override doSetPvmmio(start: Gpa, end: Gpa, map: boolean): void {
    this.#fake.note('doSetPvmmio', start, end, map);
  }
  protected override doSetOpregion(): void {
    this.#fake.note('doSetOpregion');
  }
  protected override doSetEdid(port: number): void {
    this.#fake.note('doSetEdid', port);
  }
  protected override doGetVfioDevice(): void {
    this.#fake.note('doGetVfioDevice');
  }
  protected override doPutVfioDevice(): void {
    this.#fake.note('doPutVfioDevice');
  }
}

/** A request object with these fields. */
export const requestOf = (fields: Partial<IoRequest>): IoRequest => Object.assign(new IoRequest(), fields);
