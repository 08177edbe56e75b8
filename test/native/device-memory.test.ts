/** Device memory on memfd: shared, sealed, released once; planes exported for another process. */
import { existsSync, fstatSync, ftruncateSync, readFileSync, readSync, writeSync } from 'node:fs';
import t from 'tap';
import { MemfdMemories, UDMABUF_CREATE } from '../../src/native/device-memory.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { OwnedMapping } from '../../src/native/mapping.js';
import { F, SEAL, SEEK } from '../../src/native/syscalls.js';
import { refused } from '../core/expect.js';
import { FaultySyscalls } from './faulty-syscalls.js';

const [EPERM, EINVAL, ENOMEM, EMFILE, ENOENT] = [1, 22, 12, 24, 2];
const SIZE = 0x4000;
const DESCRIPTOR = 1000;

/** Syscalls on which opening /dev/udmabuf gives a descriptor of the test's, and a request to it this answer. */
class WithUdmabuf extends FaultySyscalls {
  readonly requests: Uint8Array[] = [];
  answer = 0;

  override open(path: string, flags: number): number {
    return path === '/dev/udmabuf' ? DESCRIPTOR : super.open(path, flags);
  }

  override ioctlBuffer(fd: number, request: number, buffer: Uint8Array): number {
    if (fd !== DESCRIPTOR || request !== UDMABUF_CREATE) return -EINVAL;
    this.requests.push(buffer.slice());
    return this.answer;
  }

  override close(fd: number): number {
    if (fd !== DESCRIPTOR) return super.close(fd);
    this.closed++;
    return 0;
  }

  closed = 0;
}

/** Syscalls of a kernel without /dev/udmabuf. */
class WithoutUdmabuf extends FaultySyscalls {
  override open(path: string, flags: number): number {
    return path === '/dev/udmabuf' ? -ENOENT : super.open(path, flags);
  }
}

t.test('memory is a file that others can map, and nobody can make shorter or longer', async (t) => {
  const spy = new FaultySyscalls(sys);
  const memory = new MemfdMemories(spy).allocate(SIZE, 'a device');
  const { fd, bytes } = memory;
  t.equal(bytes.length, SIZE);
  t.ok(bytes.every((byte) => byte === 0));
  t.equal(fstatSync(fd).size, SIZE);
  t.match(readFileSync('/proc/self/maps', 'utf8'), /memfd:a device/);
  bytes[SIZE - 1] = 0x5a;
  const other = OwnedMapping.file(sys, fd, SIZE, 'a second mapping');
  t.equal(new Uint8Array(other.buffer)[SIZE - 1], 0x5a, 'shared');
  new Uint8Array(other.buffer)[0] = 0xa5;
  t.equal(bytes[0], 0xa5, 'both ways');
  t.equal(sys.fcntl(fd, F.GET_SEALS, 0), SEAL.SEAL | SEAL.SHRINK | SEAL.GROW);
  for (const size of [0, SIZE - 1, SIZE + 1]) t.throws(() => ftruncateSync(fd, size), { code: 'EPERM' }, `truncating to ${size}`);
  t.throws(() => writeSync(fd, new Uint8Array(1), 0, 1, SIZE), { code: 'EPERM' }, 'writing past the end');
  t.equal(sys.fcntl(fd, F.ADD_SEALS, SEAL.WRITE), -EPERM, 'and no more seals');
  memory.close();
  t.equal(bytes.length, 0, 'its views are empty');
  t.equal(memory.fd, -1);
  memory.close();
  t.same([spy.openFds.size, spy.mapped.size], [0, 0]);
  t.equal(new Uint8Array(other.buffer)[0], 0xa5, 'a mapping that somebody else has stays');
  other.close();
});

t.test('what fails on the way leaves nothing behind', async (t) => {
  for (const [call, errno, code] of [
    ['memfdCreate', EMFILE, 'HYPERVISOR'],
    ['memfdCreate', ENOMEM, 'NO_MEMORY'],
    ['ftruncate', EINVAL, 'HYPERVISOR'],
    ['fcntl', EPERM, 'HYPERVISOR'],
    ['mmap', ENOMEM, 'NO_MEMORY'],
  ] as const) {
    const spy = new FaultySyscalls(sys);
    spy.failNext(call, errno);
    t.match(
      refused(t, code, () => new MemfdMemories(spy).allocate(SIZE, 'a device')),
      { errno, message: /a device/ },
    );
    t.same([spy.openFds.size, spy.mapped.size], [0, 0], call);
  }
  for (const size of [0, -4096, 1, 4095, 4097, Number.NaN, 0.5])
    refused(t, 'INVALID_ARGUMENT', () => new MemfdMemories(sys).allocate(size, 'a device'), `${size} bytes`);
  refused(t, 'LIMIT', () => new MemfdMemories(sys).allocate(2 ** 32 + 4096, 'a device'));
});

t.test('a plane without udmabuf: a descriptor of its own, standing at the first byte', async (t) => {
  const spy = new WithoutUdmabuf(sys);
  const memories = new MemfdMemories(spy);
  const memory = memories.allocate(SIZE, 'a device');
  memory.bytes.fill(0x11, 0, 0x1000).fill(0x22, 0x1000, 0x2000);
  const first = memories.exportPlane(memory, 0, SIZE);
  const second = memories.exportPlane(memory, 0x1000, 100);
  t.ok(first >= 0 && second >= 0 && first !== second);
  t.equal(sys.lseek(first, 0, SEEK.CUR), 0);
  t.equal(sys.lseek(second, 0, SEEK.CUR), 0x1000, 'positions are their own');
  const byte = new Uint8Array(1);
  readSync(second, byte);
  t.equal(byte[0], 0x22);
  t.throws(() => ftruncateSync(second, 0), { code: 'EPERM' });
  const mapping = OwnedMapping.file(sys, second, SIZE, 'a viewer');
  new Uint8Array(mapping.buffer)[0x1000] = 0x33;
  t.equal(memory.bytes[0x1000], 0x33, 'the same pages');
  mapping.close();
  memory.close();
  t.equal(fstatSync(first).size, SIZE, 'they outlive the device');
  for (const fd of [first, second]) spy.close(fd);
  t.same([spy.openFds.size, spy.mapped.size], [0, 0]);
});

t.test('ranges that are no plane, and failures', async (t) => {
  const spy = new WithoutUdmabuf(sys);
  const memories = new MemfdMemories(spy);
  const memory = memories.allocate(SIZE, 'a device');
  for (const [offset, size] of [
    [1, 1],
    [-4096, 4096],
    [0, 0],
    [0, -1],
    [0, SIZE + 1],
    [SIZE, 1],
    [0x3000, 0x1001],
    [Number.NaN, 1],
    [0, Number.NaN],
  ] as const)
    t.equal(memories.exportPlane(memory, offset, size), -EINVAL, `${size} at ${offset}`);
  const last = memories.exportPlane(memory, 0x3000, 1);
  t.ok(last >= 0, 'a part of the last page');
  spy.close(last);
  spy.failNext('open', EMFILE);
  t.equal(memories.exportPlane(memory, 0, 1), -EMFILE);
  spy.failNext('lseek', EINVAL);
  t.equal(memories.exportPlane(memory, 0, 1), -EINVAL);
  memory.close();
  t.equal(memories.exportPlane(memory, 0, 1), -EINVAL, 'closed');
  t.same([spy.openFds.size, spy.mapped.size], [0, 0]);
});

t.test('a plane by udmabuf: the request, and its answer either way', async (t) => {
  const spy = new WithUdmabuf(sys);
  const memories = new MemfdMemories(spy);
  const memory = memories.allocate(SIZE, 'a device');
  spy.answer = 1234;
  t.equal(memories.exportPlane(memory, 0x1000, 0x1001), 1234);
  const view = new DataView((spy.requests[0] as Uint8Array).buffer);
  t.equal(view.byteLength, 24);
  t.same([view.getUint32(0, true), view.getUint32(4, true)], [memory.fd, 1], 'memfd and CLOEXEC');
  t.same([view.getBigUint64(8, true), view.getBigUint64(16, true)], [0x1000n, 0x2000n], 'whole pages');
  spy.answer = -ENOMEM;
  t.equal(memories.exportPlane(memory, 0, SIZE), -ENOMEM, 'a kernel that has it and refuses: no stand-in');
  t.equal(spy.closed, 2);
  memory.close();
  t.same([spy.openFds.size, spy.mapped.size], [0, 0]);
});

t.test('this machine’s own way', async (t) => {
  const memories = new MemfdMemories(sys);
  const memory = memories.allocate(SIZE, 'a device');
  const fd = memories.exportPlane(memory, 0x1000, 0x1000);
  t.ok(fd >= 0, existsSync('/dev/udmabuf') ? 'a dmabuf' : 'a stand-in');
  sys.close(fd);
  memory.close();
});
