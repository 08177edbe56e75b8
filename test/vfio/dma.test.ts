/** DMA_MAP and DMA_UNMAP: the three kinds of memory, what is refused, and what happens to memory that is taken away. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { SEAL } from '../../src/native/syscalls.js';
import { DmaMaps } from '../../src/vfio/dma-maps.js';
import { Command, E, LIMITS } from '../../src/vfio/protocol.js';
import { refused } from '../core/expect.js';
import { closeFd, eventfd, hex, mappings, memfd, message, openFds, type Rig, ready, reply, u32, u64, unsealable } from './support.js';

const C = Command;
const before = [openFds(), mappings(/memfd/)];
const EACCES = 13;
const folder = mkdtempSync(join(tmpdir(), 'mpt-dma-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const map = (
  rig: Rig,
  iova: number | bigint,
  size: number | bigint,
  fds: number[] = [],
  { flags = 3, offset = 0 as number | bigint } = {},
): number =>
  rig.exchange(message(1, C.DMA_MAP, [...u32(32), ...u32(flags), ...u64(offset), ...u64(iova), ...u64(size)]), fds)[0]?.errno ?? -1;
const unmap = (rig: Rig, iova: number | bigint, size: number | bigint, flags = 0): number | string => {
  const [answer] = rig.exchange(message(1, C.DMA_UNMAP, [...u32(24), ...u32(flags), ...u64(iova), ...u64(size)]));
  return answer?.errno === 0 ? hex(answer.bytes) : (answer?.errno ?? -1);
};
const unmapped = (iova: number, size: number, bytes: number, flags = 0): string => {
  const asked = [...u32(24), ...u32(flags), ...u64(iova), ...u64(bytes)];
  t.ok(size >= 0);
  return hex(reply(1, C.DMA_UNMAP, asked));
};

t.test('three kinds', async (t) => {
  const rig = ready('socket');
  const [shared, loose] = [memfd(0x4000), unsealable(0x4000)];
  const sealed = memfd(0x4000, SEAL.SHRINK | SEAL.GROW | SEAL.SEAL);
  t.equal(map(rig, 0, 0x4000, [shared]), 0);
  t.equal(map(rig, 0x4000, 0x4000, [loose]), 0);
  t.equal(map(rig, 0x8000, 0x4000), 0);
  t.equal(map(rig, 0xc000, 0x4000, [sealed]), 0);
  t.same(
    rig.memory.maps.map(({ iova, size, flags, kind }) => [iova, size, flags, kind]),
    [
      [0, 0x4000, 3, 'mapped'],
      [0x4000, 0x4000, 3, 'file'],
      [0x8000, 0x4000, 3, 'message'],
      [0xc000, 0x4000, 3, 'mapped'],
    ],
  );
  t.equal(sys.ftruncate(shared, 0), -1, 'sealed by us: it cannot be shortened any more');
  t.equal(sys.ftruncate(loose, 0x3000), 0);
  const bytes = Uint8Array.from({ length: 0x2000 }, (_, i) => i * 7);
  const back = new Uint8Array(0x2000);
  rig.memory.write(0x3000, bytes, 0, 0x2000);
  rig.memory.read(0x3000, back, 0, 0x2000);
  t.ok(Buffer.from(back).equals(bytes), 'one copy over two kinds');
  const raw = new Uint8Array(0x1000);
  sys.lseek(loose, 0, 0);
  sys.read(loose, raw);
  t.ok(Buffer.from(raw).equals(bytes.subarray(0x1000)), 'and it is in the file');
  refused(t, 'NOT_RAM', () => rig.memory.read(0x6fff, back, 0, 2), 'behind the end of the shortened file');
  t.equal(rig.memory.find(0x1000)?.gpa, 0);
  t.equal(rig.memory.find(0x5000), undefined, 'no DMA to a file that can be shortened');
  t.equal(rig.memory.find(0x8000), undefined, 'nor to what has none');
  t.same([rig.memory.covers(0, 0x1_0000), rig.memory.covers(0, 0x1_0001), rig.memory.covers(0xffff, 1)], [true, false, true]);
  rig.close();
  for (const fd of [shared, loose, sealed]) closeFd(fd);
});

t.test('a part of a file, and one file in many maps', async (t) => {
  const rig = ready('socket');
  const fd = memfd(0x10_0000);
  for (let i = 0; i < 256; i++) t.equal(map(rig, i * 0x1000, 0x1000, [fd], { offset: (255 - i) * 0x1000 }), 0);
  t.equal(mappings(/memfd:test/), 1, 'mapped once');
  const one = Uint8Array.of(1);
  for (let i = 0; i < 256; i++) rig.memory.write(i * 0x1000, one.fill(i), 0, 1);
  rig.memory.read(0x0f_f000, one, 0, 1);
  t.equal(one[0], 255);
  sys.lseek(fd, 0x1000, 0);
  sys.read(fd, one);
  t.equal(one[0], 254, 'page 1 of the file is page 254 of the guest');
  t.equal(unmap(rig, 0, 0x10_0000), unmapped(0, 0x10_0000, 0x10_0000), 'all of them at once');
  t.same([rig.memory.count, mappings(/memfd:test/)], [0, 0]);
  rig.close();
  closeFd(fd);
});

t.test('read-only memory', async (t) => {
  const rig = ready('socket');
  const fd = memfd(0x2000);
  sys.write(fd, Uint8Array.of(42));
  const reading = openSync(`/proc/self/fd/${fd}`, 'r');
  t.equal(map(rig, 0, 0x1000, [fd], { flags: 1 }), 0);
  t.equal(map(rig, 0x1000, 0x1000, [reading], { flags: 1 }), 0, 'a descriptor that can only be read is enough');
  t.equal(map(rig, 0x2000, 0x1000, [reading]), EACCES, 'but not for more');
  t.equal(map(rig, 0x3000, 0x1000, [], { flags: 1 }), 0);
  t.equal(map(rig, 0x4000, 0x1000, [fd], { flags: 2 }), 0, 'write-only');
  const byte = new Uint8Array(1);
  rig.memory.read(0, byte, 0, 1);
  t.equal(byte[0], 42);
  for (const gpa of [0, 0x1000, 0x3000]) refused(t, 'NOT_RAM', () => rig.memory.write(gpa, byte, 0, 1), 'a write to it');
  refused(t, 'NOT_RAM', () => rig.memory.read(0x4000, byte, 0, 1), 'a read of what can only be written');
  t.equal(rig.memory.find(0), undefined, 'it is no RAM');
  rig.close();
  closeFd(fd);
  closeSync(reading);
});

t.test('refused maps', async (t) => {
  const rig = ready('socket');
  const fd = memfd(0x4000);
  const pair = new Int32Array(2);
  libcSockets.socketpair(pair);
  const event = eventfd();
  const directory = openSync('/tmp', 'r');
  const nothing = openSync('/dev/null', 'r');
  const zero = openSync('/dev/zero', 'r+');
  const path = join(folder, 'file');
  writeFileSync(path, new Uint8Array(0x4000));
  const pathOnly = sys.open(path, 0x20_0000);
  const writing = openSync(path, 'a');
  const frozen = memfd(0x4000, SEAL.WRITE);
  const held = openFds();
  t.equal(map(rig, 0x10_0000, 0x4000, [fd]), 0);
  const top = 2n ** 64n;
  const cases: [string, number, () => number][] = [
    ['no size', E.INVAL, () => map(rig, 0, 0, [fd])],
    ['half a page', E.INVAL, () => map(rig, 0, 0x800, [fd])],
    ['an odd address', E.INVAL, () => map(rig, 0x800, 0x1000, [fd])],
    ['an odd offset', E.INVAL, () => map(rig, 0, 0x1000, [fd], { offset: 0x800 })],
    ['no flags', E.INVAL, () => map(rig, 0, 0x1000, [fd], { flags: 0 })],
    ['unknown flags', E.INVAL, () => map(rig, 0, 0x1000, [fd], { flags: 7 })],
    ['behind the file', E.INVAL, () => map(rig, 0, 0x1000, [fd], { offset: 0x4000 })],
    ['over its end', E.INVAL, () => map(rig, 0, 0x2000, [fd], { offset: 0x3000 })],
    ['an offset that wraps', E.INVAL, () => map(rig, 0, 0x2000, [fd], { offset: top - 0x1000n })],
    ['the last page', E.INVAL, () => map(rig, top - 0x1000n, 0x1000)],
    ['a wrap', E.INVAL, () => map(rig, top - 0x1000n, 0x2000)],
    ['a wrap by the size', E.INVAL, () => map(rig, 0x1000, top - 0x1000n)],
    ['past 2^52', E.INVAL, () => map(rig, 2n ** 52n, 0x1000)],
    ['too much', E.NOSPC, () => map(rig, 2 ** 41, LIMITS.maxDmaBytes)],
    ['the same', E.EXIST, () => map(rig, 0x10_0000, 0x4000, [fd])],
    ['overlapping before', E.EXIST, () => map(rig, 0xf_f000, 0x2000)],
    ['overlapping behind', E.EXIST, () => map(rig, 0x10_3000, 0x2000)],
    ['inside', E.EXIST, () => map(rig, 0x10_1000, 0x1000)],
    ['around', E.EXIST, () => map(rig, 0, 0x100_0000)],
    ['a socket', E.INVAL, () => map(rig, 0, 0x1000, [pair[0] as number])],
    ['an eventfd', E.INVAL, () => map(rig, 0, 0x1000, [event])],
    ['a directory', EACCES, () => map(rig, 0, 0x1000, [directory])],
    ['a directory that is to be read', E.INVAL, () => map(rig, 0, 0x1000, [directory], { flags: 1 })],
    ['/dev/null', E.INVAL, () => map(rig, 0, 0x1000, [nothing], { flags: 1 })],
    ['/dev/zero', E.INVAL, () => map(rig, 0, 0x1000, [zero])],
    ['a path', E.BADF, () => map(rig, 0, 0x1000, [pathOnly], { flags: 1 })],
    ['a file that can only be written', EACCES, () => map(rig, 0, 0x1000, [writing])],
    ['a memfd that nobody may write', E.PERM, () => map(rig, 0, 0x1000, [frozen])],
  ];
  for (const [name, errno, action] of cases) {
    t.equal(action(), errno, name);
    t.equal(openFds(), held, `${name}: nothing is kept`);
  }
  t.same([rig.memory.count, mappings(/memfd:test/)], [1, 1]);
  rig.close();
  for (const each of [fd, ...pair, event, pathOnly, frozen]) closeFd(each);
  for (const each of [directory, nothing, zero, writing]) closeSync(each);
});

t.test('as many maps as there can be', async (t) => {
  const maps = new DmaMaps(sys);
  let failed = 0;
  for (let i = 0; i < LIMITS.maxDmaMaps; i++) if (maps.map(i * 0x1000, 0x1000, 3, undefined, 0) !== 0) failed++;
  t.equal(failed, 0);
  t.equal(maps.map(2 ** 40, 0x1000, 3, undefined, 0), E.NOSPC);
  t.equal(maps.unmap(0x5000, 0x1000), 0x1000);
  t.equal(maps.map(2 ** 40, 0x1000, 3, undefined, 0), 0);
  t.equal(maps.clear(), LIMITS.maxDmaMaps * 0x1000);
  t.equal(maps.count, 0);
});

t.test('DMA_UNMAP', async (t) => {
  const rig = ready('socket');
  const fd = memfd(0x4000);
  const gone: number[] = [];
  rig.memory.onUnmap = ({ iova }) => gone.push(iova);
  t.equal(map(rig, 0, 0x4000, [fd]), 0);
  t.equal(map(rig, 0x4000, 0x1000), 0);
  t.equal(map(rig, 0x8000, 0x1000), 0);
  t.equal(unmap(rig, 0, 0x1000), E.INVAL, 'it would cut a map');
  t.equal(unmap(rig, 0x3000, 0x2000), E.INVAL);
  t.equal(unmap(rig, 0x4000, 0), E.INVAL);
  t.equal(unmap(rig, 0x4000, 0x800), E.INVAL);
  t.equal(unmap(rig, 0x4800, 0x1000), E.INVAL);
  t.equal(unmap(rig, 0, 0x4000, 4), E.INVAL, 'an unknown flag');
  t.equal(unmap(rig, 0, 0x4000, 1), E.NOTSUP, 'a dirty bitmap');
  t.equal(unmap(rig, 0, 0x4000, 2), E.INVAL, 'ALL with a range');
  t.equal(unmap(rig, 0x10_0000, 0x1000), unmapped(0x10_0000, 0x1000, 0), 'where nothing is');
  t.equal(
    unmap(rig, 2n ** 64n - 0x1000n, 0x1000),
    hex(reply(1, C.DMA_UNMAP, [...u32(24), ...u32(0), ...u64(2n ** 64n - 0x1000n), ...u64(0)])),
  );
  t.same(gone, []);
  t.equal(unmap(rig, 0x4000, 0x1_0000), unmapped(0x4000, 0x1_0000, 0x2000), 'two maps');
  t.same(gone.splice(0), [0x4000, 0x8000]);
  t.equal(map(rig, 0x8000, 0x1000), 0, 'its place is free again');
  t.equal(unmap(rig, 0, 0, 2), unmapped(0, 0, 0x5000, 2), 'ALL');
  t.same(gone, [0x8000, 0]);
  t.equal(unmap(rig, 0, 0, 2), unmapped(0, 0, 0, 2));
  rig.close();
  closeFd(fd);
});

t.test('memory that is taken away is out of reach, also by views from before', async (t) => {
  const rig = ready('socket');
  const fd = memfd(0x4000);
  t.equal(map(rig, 0x1_0000, 0x4000, [fd]), 0);
  const view = rig.memory.view(0x1_0000, 0x4000);
  t.equal(view.length, 0x4000);
  t.type(unmap(rig, 0x1_0000, 0x4000), 'string');
  view[0] = 1;
  t.same([view.length, view[0]], [0, undefined], 'the view is empty, and does not end the process');
  refused(t, 'NOT_RAM', () => rig.memory.read(0x1_0000, new Uint8Array(1), 0, 1));
  refused(t, 'NOT_RAM', () => rig.memory.view(0x1_0000, 1));
  // Between the parts of one copy.
  t.equal(map(rig, 0, 0x1000, [fd]), 0);
  t.equal(map(rig, 0x1000, 0x1000), 0);
  t.equal(map(rig, 0x2000, 0x1000, [fd]), 0);
  rig.memory.messages = {
    dmaRead: () => {
      rig.memory.unmap(0x2000, 0x1000);
      return true;
    },
    dmaWrite: () => false,
  };
  refused(t, 'NOT_RAM', () => rig.memory.read(0, new Uint8Array(0x3000), 0, 0x3000), 'unmapped in the middle');
  rig.close();
  closeFd(fd);
});

t.test('a file that grew, and is mapped again', async (t) => {
  const rig = ready('socket');
  const fd = memfd(0x1000);
  t.equal(map(rig, 0, 0x1000, [fd]), 0);
  t.equal(sys.ftruncate(fd, 0x3000), 0);
  t.equal(map(rig, 0x1000, 0x1000, [fd], { offset: 0x1000 }), E.INVAL, 'not while the smaller one is in use');
  t.type(unmap(rig, 0, 0x1000), 'string');
  t.equal(map(rig, 0x1000, 0x1000, [fd], { offset: 0x1000 }), 0);
  rig.close();
  closeFd(fd);
});

t.test('nothing is left', async (t) => t.same([openFds(), mappings(/memfd/)], before));
