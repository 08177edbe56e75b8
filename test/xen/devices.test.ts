/**
 * Real hardware as far as this machine has it: QEMU's `edu` device does DMA to a guest's memory, the frame buffer of
 * `bochs-display` is mapped into a guest. Both are functions of the machine that Xen runs on.
 */
import { existsSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type DmaAddress, Gfn, type Mfn, PAGE_SIZE } from '../../src/core/mpt.js';
import { OwnedFd } from '../../src/native/fd.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { OwnedMapping } from '../../src/native/mapping.js';
import { O } from '../../src/native/syscalls.js';
import { FaultyXen } from './faulty-xen.js';
import { failure, MIB, peek, type Rig, rig, SCRATCH, skip } from './support.js';

const EDU = '0000:00:06.0';
const BOCHS = '0000:00:05.0';
const missing = (name: string): string | false =>
  skip || (existsSync(`/sys/bus/pci/devices/${name}`) ? false : `the machine has no PCI function ${name}`);

/** A BAR of a function of dom0. */
function mapBar(name: string, length: number): OwnedMapping {
  const folder = `/sys/bus/pci/devices/${name}`;
  writeFileSync(`${folder}/enable`, '1');
  const fd = new OwnedFd(sys, sys.open(`${folder}/resource0`, O.RDWR | O.CLOEXEC), `opening ${folder}/resource0`);
  try {
    return OwnedMapping.file(sys, fd.fd, length, 'the BAR');
  } finally {
    fd.close();
  }
}

/** Turns on memory space and bus mastering: PCI command register, bits 1 and 2. */
function enableDma(name: string): void {
  const fd = new OwnedFd(sys, sys.open(`/sys/bus/pci/devices/${name}/config`, O.RDWR | O.CLOEXEC), 'the configuration space');
  const config = new Uint8Array(6);
  sys.read(fd.fd, config);
  fd.close();
  writeFileSync(`/sys/bus/pci/devices/${name}/config`, Uint8Array.from([...config.subarray(0, 4), (config[4] as number) | 6]), {
    flag: 'r+',
  });
}

/** edu (QEMU, docs/specs/edu.rst): DMA source, destination, count, command; its own buffer is at 0x40000. */
const BUFFER = 0x4_0000;
class Edu {
  readonly bar = mapBar(EDU, MIB);
  readonly #registers = new BigUint64Array(this.bar.buffer, 0x80, 4);

  constructor() {
    enableDma(EDU);
  }

  /** One transfer of at most 4096 bytes. @param toRam from its buffer to memory */
  transfer(source: number, destination: number, count: number, toRam: boolean): void {
    this.#registers[0] = BigInt(source);
    this.#registers[1] = BigInt(destination);
    this.#registers[2] = BigInt(count);
    this.#registers[3] = toRam ? 3n : 1n;
    const end = performance.now() + 5000;
    while (((this.#registers[3] as bigint) & 1n) !== 0n) if (performance.now() > end) throw new Error('the DMA does not end');
  }
}

t.test('a real device reads and writes guest memory at the addresses of dma_map_guest_page', { skip: missing(EDU) }, (t) => {
  const edu = new Edu();
  const it = rig();
  const [from, to] = [Gfn(SCRATCH / PAGE_SIZE), Gfn(SCRATCH / PAGE_SIZE + 300)];
  const [source, target] = [it.handle.dmaMapGuestPage(from, PAGE_SIZE), it.handle.dmaMapGuestPage(to, PAGE_SIZE)];
  t.equal(source % PAGE_SIZE, 0);
  t.equal(source / PAGE_SIZE, it.handle.gfnToMfn(from), 'a DMA address is the machine address');
  it.agent.stream(SCRATCH, [0x1111_0001, 0x2222_0002, 0x3333_0003]);
  edu.transfer(source, BUFFER, 12, false);
  edu.transfer(BUFFER, target + 0x20, 12, true);
  const at = to * PAGE_SIZE + 0x20;
  t.same(
    [0, 4, 8].map((offset) => it.agent.read(at + offset, 4)),
    [0x1111_0001, 0x2222_0002, 0x3333_0003],
    'the guest reads what the device wrote',
  );
  t.same(peek(it.handle, at, 12), it.handle.view((target + 0x20) as DmaAddress, 12), 'and so do copy and view');

  const grant = it.handle.grantOf(target);
  const { grants } = it.machine.domain;
  t.ok(grant !== undefined && grants.entryFlags(grant.ref) !== 0, 'a grant holds the page');
  const live = grants.live;
  it.handle.dmaMapGuestPage(to, PAGE_SIZE);
  it.handle.dmaUnmapGuestPage(target);
  t.equal(grants.live, live, 'two references, one unmap: it stays');
  it.handle.dmaUnmapGuestPage(target);
  t.equal(grants.live, live - 1, 'after the last unmap the grant is gone');
  t.equal(grants.entryFlags(grant?.ref ?? 0), 0, 'and its entry is free');
  t.equal(failure(() => it.handle.view(target, 4)).code, 'NOT_MAPPED');
  it.close();
  edu.bar.close();
  t.end();
});

/** 200 frames: more than three chunks of 64. */
const FRAMES = 200;
const AT = Gfn(0xd_0000);
const GPA = AT * PAGE_SIZE;

async function barFrame(): Promise<Mfn> {
  const { readFileSync } = await import('node:fs');
  const [start = '0'] = readFileSync(`/sys/bus/pci/devices/${BOCHS}/resource`, 'utf8').split(' ');
  return (Number(start) / PAGE_SIZE) as Mfn;
}

/** The guest reaches nothing at the first, a middle and the last frame. */
function expectUnmapped(t: Test, it: Rig, what: string): void {
  for (const frame of [0, 64, FRAMES - 1]) {
    it.recorder.clear();
    t.equal(it.agent.read(GPA + frame * PAGE_SIZE, 4), 0xffff_ffff, `${what}: frame ${frame}`);
    t.equal(it.recorder.accesses.length, 1);
  }
}

t.test('a real BAR mapped into a guest is the same memory on both sides', { skip: missing(BOCHS) }, async (t) => {
  const mfn = await barFrame();
  const bar = mapBar(BOCHS, FRAMES * PAGE_SIZE);
  const words = new Uint32Array(bar.buffer);
  const it = rig({ xen: { mapPciDevices: [BOCHS] } });
  it.handle.mapGfnToMfn(AT, mfn, FRAMES, true);
  it.recorder.clear();
  for (const frame of [0, 63, 64, FRAMES - 1]) {
    const at = frame * PAGE_SIZE + 0x10;
    words[at / 4] = 0xbeef_0000 + frame;
    t.equal(it.agent.read(GPA + at, 4), 0xbeef_0000 + frame, `the guest reads what dom0 wrote, frame ${frame}`);
    it.agent.write(GPA + at + 4, 4, 0xfeed_0000 + frame);
    t.equal(words[at / 4 + 1], 0xfeed_0000 + frame, `dom0 reads what the guest wrote, frame ${frame}`);
  }
  t.equal(it.recorder.accesses.length, 0, 'without an exit');
  it.handle.mapGfnToMfn(AT, mfn, FRAMES, false);
  expectUnmapped(t, it, 'after unmapping');
  t.equal(failure(() => it.handle.mapGfnToMfn(AT, (mfn + 4096) as Mfn, 1, true)).code, 'INVALID_ADDRESS', 'one frame past the BAR');
  it.close();

  const other = rig();
  t.equal(failure(() => other.handle.mapGfnToMfn(AT, mfn, 1, true)).code, 'INVALID_ADDRESS', 'a BAR that was not named');
  other.close();
  bar.close();
});

t.test('a mapping is undone on an error at each step, and works afterwards', { skip: missing(BOCHS) }, async (t) => {
  const mfn = await barFrame();
  const faulty = new FaultyXen();
  const it = rig({ xen: { mapPciDevices: [BOCHS] }, wrap: faulty.wrap });
  const EPERM = 1;
  const E2BIG = 7;
  const steps = [
    ['iomemPermission', 0],
    ['memoryMapping', 0],
    ['memoryMapping', 1],
    ['memoryMapping', 3],
  ] as const;
  for (const [name, index] of steps) {
    faulty.failCall(index, EPERM, name);
    const error = failure(() => it.handle.mapGfnToMfn(AT, mfn, FRAMES, true));
    t.equal(error.code, 'HYPERVISOR');
    t.match(error.message, new RegExp(`domain ${it.machine.vmId}, gfn 0x[0-9a-f]+, failed .*errno 1 EPERM`), `${name} ${index}`);
    expectUnmapped(t, it, `${name} ${index}`);
  }
  faulty.failCall(1, E2BIG, 'memoryMapping');
  it.handle.mapGfnToMfn(AT, mfn, FRAMES, true);
  const bar = mapBar(BOCHS, FRAMES * PAGE_SIZE);
  new Uint32Array(bar.buffer)[(FRAMES * PAGE_SIZE) / 4 - 1] = 0x1234_4321;
  t.equal(it.agent.read(GPA + FRAMES * PAGE_SIZE - 4, 4), 0x1234_4321, 'a chunk that Xen finds too large is halved');
  it.handle.mapGfnToMfn(AT, mfn, FRAMES, false);
  expectUnmapped(t, it, 'in the end');
  it.close();
  bar.close();
});
