/**
 * A domain as a machine: one that we create through libxenctrl, HVM or PVH, with no other device model; or one that exists
 * already (`xl create -p`), which keeps its own.
 */
import { type Gpa, HUGE_PAGE_SIZE, PAGE_SIZE, VmId } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import type { RamRegion } from '../../core/guest-ram.js';
import type { IoRequest } from '../../core/io-request.js';
import { checkBootImage, type Machine, type MachineSpec, type OpenMachineSpec, type StopToken } from '../../core/machine.js';
import { KickSignal } from '../../native/thread.js';
import { XEN_CONST as C } from './abi.js';
import { type DomainInfo, XenDomain, type XenHost } from './domain.js';
import { checkXen } from './failure.js';
import { bootContext } from './hvm-context.js';
import { newDomainHandle } from './journal.js';
import { XenRequests } from './requests.js';

/** Kinds of guest: what Xen itself emulates for them. */
export const GUEST_EMULATION = {
  /** A PC: interrupt controllers, timers, HPET, VGA. */
  hvm: C.XEN_X86_EMU_ALL & ~C.XEN_X86_EMU_VPCI,
  /** A local APIC and nothing else. */
  pvh: C.XEN_X86_EMU_LAPIC,
} as const;
export type GuestKind = keyof typeof GUEST_EMULATION;

/** What the machine needs of its backend. */
export interface XenVmOwner extends XenHost {
  readonly stopFlag: SharedArrayBuffer | undefined;
  readonly guestKind: GuestKind;
  readonly vcpus: number;
  route(vmId: VmId, request: IoRequest, from?: number): number;
  vmClosed(vm: XenMachine): void;
}

const MIB = 0x10_0000;
const HUGE_FRAMES = HUGE_PAGE_SIZE / PAGE_SIZE;
const HUGE_ORDER = 9;
/** Frames above RAM that the domain may hold, for Xen's own use. */
const SPARE_KIB = 1024;
const EVTCHN_PORTS = 1023;
const GRANT_FRAMES = 64;
const MAPTRACK_FRAMES = 1024;
const GRANT_VERSION = 1;
const LAST_PORT = 0xffff;
const LAST_FUNCTION = 0xffff;
/** Memory ranges of an ioreq server end at 52 bits as guest-physical addresses do. */
const LAST_GPA = 2 ** 52 - 1;
/** Frames whose types are asked for at once. */
const TYPES_AT_ONCE = 1024;
/** A guest that keeps accessing memory is caught between two accesses after a few tries, or never. */
const BOOT_TRIES = 256;

const SETTLE_MS = 1;
const NO_FDS = new Uint8Array(0);

/** MiB of second-level page tables: what libxl gives a domain, two pages a MiB of RAM and one MiB a vCPU. */
const pagingMib = (ram: readonly RamRegion[], vcpus: number): number =>
  1 + vcpus + Math.ceil((ram.reduce((sum, { size }) => sum + size, 0) / MIB) * (8 / 1024));

/** Creates a paused domain with RAM and nothing in it. @throws MptError NO_MEMORY, UNSUPPORTED, HYPERVISOR; then it is gone again */
export function createDomain(
  host: XenHost,
  ram: readonly RamRegion[],
  kind: GuestKind,
  vcpus: number,
  role: 'guest' | 'holder' = 'guest',
): number {
  const { xen: calls, layout, journal } = host;
  const { xen_domctl_createdomain: CREATE } = layout;
  const config = new DataView(new ArrayBuffer(CREATE.size));
  const { handle, tag } = newDomainHandle();
  new Uint8Array(config.buffer).set(handle, CREATE.handle);
  config.setUint32(CREATE.flags, C.XEN_DOMCTL_CDF_hvm | C.XEN_DOMCTL_CDF_hap, true);
  config.setUint32(CREATE.max_vcpus, vcpus, true);
  config.setUint32(CREATE.max_evtchn_port, EVTCHN_PORTS, true);
  config.setInt32(CREATE.max_grant_frames, GRANT_FRAMES, true);
  config.setInt32(CREATE.max_maptrack_frames, MAPTRACK_FRAMES, true);
  config.setUint32(CREATE.grant_opts, GRANT_VERSION, true);
  config.setUint32(CREATE['arch.emulation_flags'], GUEST_EMULATION[kind], true);
  const domid = checkXen('createdomain', calls.createDomain(new Uint8Array(config.buffer)));
  journal.domainCreated(domid, tag, role);
  try {
    const place = { domid };
    checkXen('max_vcpus', calls.maxVcpus(domid, vcpus), place);
    checkXen('shadow_op set_allocation', calls.setPagingAllocation(domid, pagingMib(ram, vcpus)), place);
    const kib = ram.reduce((sum, { size }) => sum + size, 0) / 1024;
    checkXen('max_mem', calls.setMaxMem(domid, kib + SPARE_KIB), place);
    for (const region of ram) populate(host, domid, region);
    return domid;
  } catch (error) {
    destroyDomain(host, domid);
    throw error;
  }
}

export function destroyDomain({ xen: calls, journal }: XenHost, domid: number): void {
  calls.destroyDomain(domid);
  journal.domainDestroyed(domid);
}

/** Large pages where the region has room for them: fewer page tables, fewer calls. */
function populate({ xen: calls }: XenHost, domid: number, { gpa, size }: RamRegion): void {
  const end = (gpa + size) / PAGE_SIZE;
  const single: bigint[] = [];
  const huge: bigint[] = [];
  for (let gfn = gpa / PAGE_SIZE; gfn < end; ) {
    const large = gfn % HUGE_FRAMES === 0 && gfn + HUGE_FRAMES <= end;
    (large ? huge : single).push(BigInt(gfn));
    gfn += large ? HUGE_FRAMES : 1;
  }
  const give = (gfns: readonly bigint[], order: number): void => {
    if (gfns.length > 0)
      checkXen('populate_physmap', calls.populate(domid, BigUint64Array.from(gfns), order), { domid, gfn: Number(gfns[0]), size });
  };
  give(huge, HUGE_ORDER);
  give(single, 0);
}

/** RAM of a domain that exists, as runs of frames. */
function findRam(domain: XenDomain, host: XenHost): RamRegion[] {
  const { xen: calls } = host;
  const { domid } = domain;
  const last = domain.check('maximum_gpfn', calls.maximumGfn(domid));
  const regions: { gpa: number; size: number }[] = [];
  const types = new BigUint64Array(TYPES_AT_ONCE);
  for (let first = 0; first <= last; first += TYPES_AT_ONCE) {
    const batch = types.subarray(0, Math.min(TYPES_AT_ONCE, last + 1 - first));
    for (let i = 0; i < batch.length; i++) batch[i] = BigInt(first + i);
    domain.check('getpageframeinfo', calls.pageTypes(domid, batch), { gfn: first });
    for (let i = 0; i < batch.length; i++) {
      if ((batch[i] as bigint) >= BigInt(C.XEN_DOMCTL_PFINFO_XTAB)) continue;
      const gpa = (first + i) * PAGE_SIZE;
      const before = regions.at(-1);
      if (before !== undefined && before.gpa + before.size === gpa) before.size += PAGE_SIZE;
      else regions.push({ gpa, size: PAGE_SIZE });
    }
  }
  return regions;
}

export class XenMachine implements Machine {
  readonly vmId: VmId;
  readonly ram: readonly RamRegion[];
  readonly domain: XenDomain;
  readonly requests: XenRequests;
  readonly stopToken: StopToken;
  readonly #owner: XenVmOwner;
  /** We created the domain, and destroy it. */
  readonly own: boolean;
  readonly #kick: KickSignal;
  /** State of the vCPUs before the first boot. */
  readonly #initial: Uint8Array;
  #booted = false;
  #paused = true;
  /** The domain was paused when it was taken up. */
  #foundPaused = true;
  #closed = false;

  private constructor(owner: XenVmOwner, domain: XenDomain, ram: readonly RamRegion[], own: boolean) {
    this.#owner = owner;
    this.own = own;
    this.domain = domain;
    this.vmId = VmId(domain.domid);
    this.ram = ram;
    this.#kick = new KickSignal(owner.sys);
    let requests: XenRequests | undefined;
    try {
      const flag = owner.stopFlag ?? new SharedArrayBuffer(4);
      this.stopToken = { flag, tid: this.#kick.tid, pid: this.#kick.pid };
      requests = new XenRequests({
        sys: owner.sys,
        domain,
        ram: domain.ram,
        kick: this.#kick,
        stopFlag: new Int32Array(flag),
        route: (request, from) => owner.route(this.vmId, request, from),
        run: () => this.#run(),
      });
      this.requests = requests;
      const { xen: calls } = owner;
      const size = domain.check('gethvmcontext', calls.getHvmContext(domain.domid, null));
      this.#initial = new Uint8Array(size);
      domain.check('gethvmcontext', calls.getHvmContext(domain.domid, this.#initial));
    } catch (error) {
      requests?.close();
      this.#kick.close();
      throw error;
    }
  }

  /** A new domain. @throws MptError NO_MEMORY, UNSUPPORTED, HYPERVISOR */
  static create(owner: XenVmOwner, spec: MachineSpec): XenMachine {
    const domid = createDomain(owner, spec.ram, owner.guestKind, owner.vcpus);
    let domain: XenDomain | undefined;
    try {
      domain = new XenDomain(owner, domid, owner.vcpus);
      // Nobody else answers this guest: every port, every address without RAM and every PCI function is delivered.
      domain.platform.claim('port', 0, LAST_PORT);
      domain.platform.claim('memory', 0, LAST_GPA);
      domain.platform.claim('pci', 0, LAST_FUNCTION);
      return new XenMachine(owner, domain, spec.ram, true);
    } catch (error) {
      domain?.close();
      destroyDomain(owner, domid);
      throw error;
    }
  }

  /** A domain that exists. Its own device model, if it has one, keeps what the vGPUs do not claim. @throws MptError */
  static adopt(owner: XenVmOwner, domid: number, info: DomainInfo, { ports = [] }: OpenMachineSpec): XenMachine {
    const domain = new XenDomain(owner, domid, info.vcpus);
    try {
      for (const [first, last] of ports) domain.platform.claim('port', first, last);
      const machine = new XenMachine(owner, domain, findRam(domain, owner), false);
      machine.#paused = info.paused;
      machine.#foundPaused = info.paused;
      return machine;
    } catch (error) {
      domain.close();
      throw error;
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  boot(gpa: Gpa, image: Uint8Array): void {
    if (this.#closed) throw new MptError('CLOSED', 'the machine is closed', { op: 'boot' });
    if (this.requests.pending) throw new MptError('BUSY', 'a guest access is not completed', { op: 'boot' });
    checkBootImage(gpa, image);
    const { domain } = this;
    const info = domain.info();
    if (!this.#booted && info.cpuTime > 0)
      throw new MptError('BUSY', `domain ${domain.domid} has run already: a boot would overwrite its guest`, {
        op: 'boot',
        hint: 'create it paused: xl create -p',
      });
    if (this.#booted && domain.vcpus > 1)
      throw new MptError('BUSY', 'the other vCPUs of the machine run', { op: 'boot', hint: 'create a new machine' });
    this.#standStill();
    domain.ram.write(gpa, image, 0, image.length);
    const { xen: calls } = this.#owner;
    domain.check('sethvmcontext', calls.setHvmContext(domain.domid, bootContext(this.#initial, gpa)));
    this.#booted = true;
    this.requests.restart();
  }

  exitCounts(): Readonly<Record<string, number>> {
    return this.requests.counts();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const { domid } = this.domain;
    const { xen: calls } = this.#owner;
    this.requests.close();
    // A guest must not run into a device that is half gone. One that was running when we came goes on afterwards.
    if (!this.#paused) this.domain.undo(() => calls.pause(domid));
    try {
      this.#owner.vmClosed(this);
    } finally {
      this.domain.close();
      this.#kick.close();
      if (this.own) destroyDomain(this.#owner, domid);
      else if (!this.#foundPaused) calls.unpause(domid);
    }
  }

  #run(): void {
    if (!this.#paused) return;
    this.domain.check('unpausedomain', this.#owner.xen.unpause(this.domain.domid));
    this.#paused = false;
  }

  /**
   * Pauses the guest with no access in flight. Xen finishes an access when its vCPU runs again: a port access then only
   * loads a register, but a memory access is carried out again, from whatever instruction stands there.
   */
  #standStill(): void {
    const { xen: calls } = this.#owner;
    for (let tries = 0; tries < BOOT_TRIES; tries++) {
      if (!this.#paused) {
        this.domain.check('pausedomain', calls.pause(this.domain.domid));
        this.#paused = true;
      }
      if (!this.requests.abandon()) return;
      this.#run();
      // The time in which the vCPU finishes it: on one CPU it runs only while we do not.
      this.#owner.sys.poll(NO_FDS, 0, SETTLE_MS);
    }
    throw new MptError('BUSY', 'the vCPU does not finish its last access', { op: 'boot', hint: 'create a new machine' });
  }
}
