/** Owned descriptors and mappings, poll, kicks: what has one owner is released once and is harmless afterwards. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { OwnedFd } from '../../src/native/fd.js';
import { InterruptTimer } from '../../src/native/interrupt-timer.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { OwnedMapping } from '../../src/native/mapping.js';
import { Poller } from '../../src/native/poll.js';
import { EAGAIN, EFD, EINTR, F, O, SIG_BLOCK, signalSet } from '../../src/native/syscalls.js';
import { KICK_SIGNAL, stopThread, ThreadKick } from '../../src/native/thread.js';
import { refused } from '../core/expect.js';
import { describeEnd, runChild } from './child.js';
import { FaultySyscalls } from './faulty-syscalls.js';

const [EBADF, ENOMEM, EINVAL, ESRCH] = [9, 12, 22, 3];
const SIZE = 0x4000;
const DANGEROUS = new URL('./dangerous.js', import.meta.url);

const one = new Uint8Array(new BigUint64Array([1n]).buffer);
const eventfd = (spy = new FaultySyscalls(sys)): OwnedFd => new OwnedFd(spy, spy.eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK), 'eventfd');

/** The kernel's word about this thread's signals. */
const signals = (field: 'SigBlk' | 'SigPnd', path = '/proc/thread-self/status'): bigint =>
  BigInt(`0x${new RegExp(`^${field}:\\s*(\\w+)`, 'm').exec(readFileSync(path, 'utf8'))?.[1] ?? 0}`);
const KICK_BIT = 1n << BigInt(KICK_SIGNAL - 1);
const isMapped = (address: number): boolean => readFileSync('/proc/self/maps', 'utf8').includes(`${address.toString(16)}-`);

t.test('the seam answers results or minus errno and never throws', async (t) => {
  const buffer = new Uint8Array(8);
  t.equal(sys.open('/nonexistent/x', O.RDWR), -2);
  t.equal(sys.close(-1), -EBADF);
  t.equal(sys.ioctl(-1, 0xae00, 0), -EBADF);
  t.equal(sys.ioctlBuffer(-1, 0x4020_ae46, buffer), -EBADF);
  t.equal(sys.read(-1, buffer), -EBADF);
  t.equal(sys.write(-1, buffer), -EBADF);
  t.equal(sys.mmap(0, 3, 0x22, -1, 0), -EINVAL);
  t.equal(sys.mmap(2 ** 50, 3, 0x22, -1, 0), -ENOMEM);
  t.equal(sys.munmap(1, 4096), -EINVAL);
  t.equal(sys.tgkill(sys.getpid(), 2 ** 22, 0), -ESRCH);
  t.equal(sys.sigmask(99, new Uint8Array(128).fill(1), new Uint8Array(128)), -EINVAL);
  t.equal(sys.sigtake(signalSet(KICK_SIGNAL)), -EAGAIN);
  t.equal(sys.memfdCreate('x', 0x8000_0000), -EINVAL);
  t.equal(sys.fcntl(-1, F.GET_SEALS, 0), -EBADF);
  t.equal(sys.lseek(-1, 0, 0), -EBADF);
  t.equal(sys.timerCreate(1000, sys.gettid()), -EINVAL);
  t.equal(sys.getpid(), process.pid);
  t.equal(sys.gettid(), process.pid, 'the main thread');
});

t.test('OwnedFd closes once and then has no number', async (t) => {
  const spy = new FaultySyscalls(sys);
  const fd = eventfd(spy);
  const { fd: number } = fd;
  t.ok(fd.open && existsSync(`/proc/self/fd/${number}`));
  t.match(readdirSync('/proc/self/fdinfo'), new RegExp(`\\b${number}\\b`));
  fd.close();
  t.notOk(fd.open || existsSync(`/proc/self/fd/${number}`));
  refused(t, 'CLOSED', () => fd.fd);
  const successor = eventfd(spy);
  t.equal(successor.fd, number, 'the number is used again');
  fd.close();
  t.ok(existsSync(`/proc/self/fd/${number}`), 'and the old owner leaves it alone');
  successor.close();
  t.same(
    spy.names.filter((name) => name === 'close'),
    ['close', 'close'],
  );
  const failing = refused(t, 'HYPERVISOR', () => new OwnedFd(spy, -EBADF, 'opening the device'));
  t.match(failing, { errno: EBADF, message: /opening the device/ });
  refused(t, 'NO_MEMORY', () => new OwnedFd(spy, -ENOMEM, 'x'));
});

t.test('OwnedMapping: its memory is the kernel’s, its failures are typed', async (t) => {
  const spy = new FaultySyscalls(sys);
  const mapping = OwnedMapping.anonymous(spy, SIZE, 'a test');
  t.match(mapping, { length: SIZE, open: true });
  t.equal(mapping.hva % 4096, 0);
  t.ok(isMapped(mapping.hva));
  const bytes = new Uint8Array(mapping.buffer);
  t.equal(bytes.length, SIZE);
  t.ok(
    bytes.every((byte) => byte === 0),
    'zeroed',
  );
  bytes[SIZE - 1] = 0x5a;
  t.equal(new Uint8Array(sys.view(mapping.hva, SIZE))[SIZE - 1], 0x5a, 'a second view sees the same byte');
  const { hva } = mapping;
  mapping.close();
  t.notOk(mapping.open || isMapped(hva));
  mapping.close();
  t.equal(spy.names.filter((name) => name === 'munmap').length, 1, 'unmapped once');
  t.equal(spy.mapped.size, 0);
  t.match(
    refused(t, 'CLOSED', () => mapping.buffer),
    { size: SIZE },
  );
  t.match(
    refused(t, 'HYPERVISOR', () => OwnedMapping.file(sys, -1, SIZE, 'nothing')),
    { errno: EBADF, size: SIZE },
  );
  refused(t, 'HYPERVISOR', () => OwnedMapping.anonymous(sys, 0, 'no bytes'));
  spy.failNext('mmap', ENOMEM);
  t.match(
    refused(t, 'NO_MEMORY', () => OwnedMapping.anonymous(spy, SIZE, 'too much')),
    { errno: ENOMEM, size: SIZE },
  );
  t.equal(spy.mapped.size, 0);
});

t.test('a view that outlives its mapping is empty', async (t) => {
  const mapping = OwnedMapping.anonymous(sys, SIZE, 'a test');
  const { buffer } = mapping;
  const bytes = new Uint8Array(buffer);
  const part = bytes.subarray(100, 200);
  const quads = new BigUint64Array(buffer, 8);
  const words = new DataView(buffer, 16, 16);
  mapping.close();
  t.same([buffer.byteLength, bytes.length, part.length, quads.length], [0, 0, 0, 0]);
  t.equal(bytes[0], undefined);
  t.equal(quads[0], undefined);
  bytes[0] = 1;
  t.throws(() => words.getUint8(0), TypeError);
  t.throws(() => new Uint8Array(buffer), TypeError);
});

t.test('what would end the process ends nothing (child processes)', async (t) => {
  const scenarios = [
    'views',
    'views in a worker',
    'close after garbage collection',
    'many threads start at once',
    'too large',
    'pending kick at close',
    'timer fires in the right thread',
  ];
  for (const name of scenarios) {
    const end = await runChild(DANGEROUS, { args: [name], execArgv: ['--expose-gc'], deadlineMs: 20_000 });
    t.ok(end.code === 0 && end.stdout === 'done\n', `${name}: ${describeEnd(end)}`);
  }
});

t.test('Poller waits for input and tells which descriptor has it', async (t) => {
  const [a, b] = [eventfd(), eventfd()];
  const poller = new Poller(sys, [a.fd, b.fd]);
  t.equal(poller.wait(0), 0);
  t.notOk(poller.ready(0) || poller.ready(1));
  sys.write(b.fd, one);
  t.equal(poller.wait(-1), 1);
  t.notOk(poller.ready(0));
  t.ok(poller.ready(1));
  sys.write(a.fd, one);
  t.equal(poller.wait(1000), 2);
  sys.read(b.fd, new Uint8Array(8));
  t.equal(poller.wait(0), 1, 'level triggered');
  t.ok(poller.ready(0) && !poller.ready(1), 'the last answer is not kept');
  sys.read(a.fd, new Uint8Array(8));
  const start = performance.now();
  t.equal(poller.wait(20), 0);
  t.ok(performance.now() - start >= 19, 'it waited');
  a.close();
  t.equal(poller.wait(1000), 1, 'a descriptor that was closed is ready: its owner finds out');
  t.ok(poller.ready(0));
  b.close();
  t.equal(new Poller(sys, []).wait(0), 0, 'none at all');
  const spy = new FaultySyscalls(sys);
  const failing = new Poller(spy, []);
  spy.failNext('poll', EINTR);
  t.equal(failing.wait(-1), 0, 'a signal ends the wait');
  spy.failNext('poll', ENOMEM);
  t.match(
    refused(t, 'HYPERVISOR', () => failing.wait(0)),
    { errno: ENOMEM },
  );
});

t.test('ThreadKick blocks the signal while any kick lives and restores the mask after the last', async (t) => {
  const before = signals('SigBlk');
  t.equal(before & KICK_BIT, 0n);
  const first = new ThreadKick(sys);
  t.equal(signals('SigBlk'), before | KICK_BIT);
  const second = new ThreadKick(sys);
  t.same([...first.outerMask], [...second.outerMask]);
  t.equal((first.outerMask[(KICK_SIGNAL - 1) >> 3] as number) & (1 << ((KICK_SIGNAL - 1) & 7)), 0, 'the mask from before');
  first.close();
  first.close();
  t.equal(signals('SigBlk'), before | KICK_BIT, 'the second one still needs it');
  second.close();
  t.equal(signals('SigBlk'), before);
  t.match(first, { tid: process.pid, pid: process.pid });
  const foreign = signalSet(10);
  const old = new Uint8Array(128);
  sys.sigmask(SIG_BLOCK, foreign, old);
  const third = new ThreadKick(sys);
  t.equal((third.outerMask[1] as number) & 2, 2, 'what was blocked before stays blocked inside KVM_RUN');
  third.close();
  t.equal(signals('SigBlk'), before | (1n << 9n));
  sys.sigmask(2, old, new Uint8Array(128));
});

t.test('kicks are pending until drained; a timer makes them until it is disarmed', async (t) => {
  const spy = new FaultySyscalls(sys);
  const kick = new ThreadKick(spy);
  const set = signalSet(KICK_SIGNAL);
  const token = { flag: new SharedArrayBuffer(4), tid: kick.tid, pid: kick.pid };
  const pending = (): boolean => (signals('SigPnd') & KICK_BIT) !== 0n;
  stopThread(token, spy);
  stopThread(token, spy);
  t.ok(pending(), 'a kick before the wait is kept');
  t.equal(Atomics.load(new Int32Array(token.flag), 0), 1);
  kick.drain();
  t.notOk(pending());
  t.equal(sys.sigtake(set), -EAGAIN);

  const kicked = (): boolean => {
    const deadline = performance.now() + 2000;
    while (performance.now() < deadline) if (sys.sigtake(set) > 0) return true;
    return false;
  };
  kick.arm(0.5);
  t.ok(kicked() && kicked() && kicked(), 'periodic');
  kick.arm(1000);
  kick.drain();
  t.notOk(pending(), 'armed anew, the old period is gone');
  kick.disarm();
  kick.disarm();
  t.equal(spy.names.filter((name) => name === 'timerSet off').length, 1, 'disarmed once');
  kick.arm(0);
  t.ok(kicked(), 'the shortest period is 1 us');
  kick.close();
  t.equal(spy.timers.size, 0);
  t.notOk(pending());
  t.equal(signals('SigBlk') & KICK_BIT, 0n);
});

t.test('without a timer or a blocked signal there is no kick object, and the mask is as before', async (t) => {
  for (const call of ['timerCreate', 'sigmask']) {
    const spy = new FaultySyscalls(sys);
    spy.failNext(call, EAGAIN);
    t.throws(() => new ThreadKick(spy), { code: 'HYPERVISOR', errno: EAGAIN }, call);
    t.equal(spy.timers.size, 0, call);
    t.equal(signals('SigBlk') & KICK_BIT, 0n, call);
  }
});

t.test('stopThread wakes a thread of which only the flag is known, and a thread that ended is no error', async (t) => {
  const flag = new SharedArrayBuffer(4);
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
     parentPort.postMessage('ready');
     parentPort.postMessage(Atomics.wait(new Int32Array(workerData), 0, 0, 10000));`,
    { eval: true, workerData: flag },
  );
  const answers: unknown[] = [];
  await new Promise((resolve) => {
    worker.on('message', (message) => {
      answers.push(message);
      if (message === 'ready') stopThread({ flag, tid: 0, pid: process.pid });
    });
    worker.on('exit', resolve);
  });
  t.equal(answers[0], 'ready');
  t.match(answers[1], /^(ok|not-equal)$/, 'woken, or it saw the flag before it slept');
  const spy = new FaultySyscalls(sys);
  t.doesNotThrow(() => stopThread({ flag, tid: 2 ** 22 - 1, pid: process.pid }, spy));
  t.doesNotThrow(() => stopThread({ flag, tid: 0, pid: process.pid }, spy));
  t.same(spy.names, ['tgkill'], 'no signal without a thread id');
});

t.test('a time limit ends waits and leaves reads alone; it is set seldom, and rests', async (t) => {
  const spy = new FaultySyscalls(sys);
  const timer = new InterruptTimer(spy);
  const nothing = new Uint8Array(0);
  t.equal(
    timer.limit(10, performance.now(), () => sys.poll(nothing, 0, 5000)),
    -EINTR,
    'a wait without anybody to end it',
  );
  // By then the signal comes every few milliseconds.
  const fd = sys.eventfd(0, EFD.CLOEXEC);
  const worker = new Worker(
    'const { workerData } = require("node:worker_threads"); setTimeout(() => require("node:fs").writeSync(workerData, new BigUint64Array([1n])), 60);',
    { eval: true, workerData: fd },
  );
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  t.equal(sys.read(fd, new Uint8Array(8)), 8, 'a read that takes longer');
  const before = spy.names.length;
  for (let i = 0; i < 1000; i++) timer.limit(60_000, performance.now(), () => 0);
  t.same(spy.names.slice(before), ['timerSet'], 'one limit serves many calls');
  timer.limit(20_000, performance.now(), () => 0);
  timer.limit(60_000, performance.now(), () => 0);
  t.same(spy.names.slice(before + 1), ['timerSet', 'timerSet'], 'but none that is too late or far too early');
  timer.rest();
  timer.rest();
  t.same(spy.names.slice(before + 3), ['timerSet off']);
  timer.close();
  await ended;
  sys.close(fd);
});
