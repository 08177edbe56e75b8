/**
 * The real `Syscalls`: glibc through koffi. Fixed prototypes (the variadic ioctl costs 50 ns more), buffers passed as
 * they are, errno read in the very next expression after the call because any libc work between overwrites it.
 */
import koffi from 'koffi';
import { SA_RESTART, type Syscalls } from './syscalls.js';

const libc = koffi.load('libc.so.6');

// mmap takes and returns an integer address: koffi gives a number below 2^53 and a bigint for MAP_FAILED (2^64 - 1).
const cOpen = libc.func('open', 'int', ['str', 'int', 'int']);
const cClose = libc.func('close', 'int', ['int']);
const cIoctl = libc.func('ioctl', 'int', ['int', 'ulong', 'uintptr_t']);
const cIoctlBuffer = libc.func('ioctl', 'int', ['int', 'ulong', 'void *']);
const cMmap = libc.func('mmap', 'uintptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
const cMunmap = libc.func('munmap', 'int', ['uintptr_t', 'size_t']);
const cEventfd = libc.func('eventfd', 'int', ['uint', 'int']);
const cRead = libc.func('read', 'int64_t', ['int', 'void *', 'size_t']);
const cWrite = libc.func('write', 'int64_t', ['int', 'void *', 'size_t']);
const cPoll = libc.func('poll', 'int', ['void *', 'ulong', 'int']);
const cReadAt = libc.func('read', 'int64_t', ['int', 'uintptr_t', 'size_t']);
const cWriteAt = libc.func('write', 'int64_t', ['int', 'uintptr_t', 'size_t']);
const cPollAt = libc.func('poll', 'int', ['uintptr_t', 'ulong', 'int']);
const cPpoll = libc.func('ppoll', 'int', ['void *', 'ulong', 'void *', 'void *']);
const cSignalfd = libc.func('signalfd', 'int', ['int', 'void *', 'int']);
const cFlock = libc.func('flock', 'int', ['int', 'int']);
const cFtruncate = libc.func('ftruncate', 'int', ['int', 'int64_t']);
const cGettid = libc.func('gettid', 'int', []);
const cTgkill = libc.func('tgkill', 'int', ['int', 'int', 'int']);
const cSigmask = libc.func('pthread_sigmask', 'int', ['int', 'void *', 'void *']);
const cSigaction = libc.func('sigaction', 'int', ['int', 'void *', 'void *']);
const cDlsym = libc.func('dlsym', 'uintptr_t', ['uintptr_t', 'str']);
const cSigtimedwait = libc.func('sigtimedwait', 'int', ['void *', 'void *', 'void *']);
const cTimerCreate = libc.func('timer_create', 'int', ['int', 'void *', 'void *']);
const cTimerSettime = libc.func('timer_settime', 'int', ['uintptr_t', 'int', 'void *', 'void *']);
const cTimerDelete = libc.func('timer_delete', 'int', ['uintptr_t']);
const cMemfdCreate = libc.func('memfd_create', 'int', ['str', 'uint']);
const cFcntl = libc.func('fcntl', 'int', ['int', 'int', 'long']);
const cClockGettime = libc.func('clock_gettime', 'int', ['int', 'void *']);
const cLseek = libc.func('lseek', 'int64_t', ['int', 'int64_t', 'int']);

const failed = (result: number): number => (result < 0 ? -koffi.errno() : result);

/** time.h: the processor time of the calling thread. It always exists. */
const CLOCK_THREAD_CPUTIME_ID = 3;
const CLOCK_MONOTONIC = 1;
const SIGEV_THREAD_ID = 4;
const NS = 1_000_000_000;

const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer);

/** Scratch for timer calls: one thread, synchronous calls, so one buffer each is enough. */
const sigevent = new DataView(new ArrayBuffer(64));
const timerId = new DataView(new ArrayBuffer(8));
const itimerspec = new DataView(new ArrayBuffer(32));
const timespec = new DataView(new ArrayBuffer(16));
const timespecBytes = bytesOf(timespec);
const zeroTime = new Uint8Array(16);
const sigeventBytes = bytesOf(sigevent);
const timerIdBytes = bytesOf(timerId);
const itimerspecBytes = bytesOf(itimerspec);

export const libcSyscalls: Syscalls = {
  open: (path, flags) => failed(cOpen(path, flags, 0o600)),
  close: (fd) => failed(cClose(fd)),
  ioctl: (fd, request, value) => {
    const result: number = cIoctl(fd, request, value);
    return result < 0 ? -koffi.errno() : result;
  },
  ioctlBuffer: (fd, request, buffer) => {
    const result: number = cIoctlBuffer(fd, request, buffer);
    return result < 0 ? -koffi.errno() : result;
  },
  mmap: (length, protection, flags, fd, offset) => {
    const address: number | bigint = cMmap(0, length, protection, flags, fd, offset);
    return typeof address === 'bigint' ? -koffi.errno() : address;
  },
  munmap: (address, length) => failed(cMunmap(address, length)),
  view: (address, length) => koffi.view(address, length) as ArrayBuffer,
  eventfd: (initial, flags) => failed(cEventfd(initial, flags)),
  read: (fd, buffer) => failed(Number(cRead(fd, buffer, buffer.length))),
  write: (fd, buffer) => failed(Number(cWrite(fd, buffer, buffer.length))),
  poll: (fds, count, timeoutMs) => failed(cPoll(fds, count, timeoutMs)),
  readAt: (fd, address, length) => {
    const result: number = cReadAt(fd, address, length);
    return result < 0 ? -koffi.errno() : result;
  },
  writeAt: (fd, address, length) => {
    const result: number = cWriteAt(fd, address, length);
    return result < 0 ? -koffi.errno() : result;
  },
  pollAt: (fds, count, timeoutMs) => {
    const result: number = cPollAt(fds, count, timeoutMs);
    return result < 0 ? -koffi.errno() : result;
  },
  ppoll: (fds, count, timeoutNs) => {
    // struct timespec: tv_sec, tv_nsec of 8 bytes.
    timespec.setUint32(0, timeoutNs / NS, true);
    timespec.setUint32(8, timeoutNs % NS, true);
    return failed(cPpoll(fds, count, timespecBytes, null));
  },
  signalfd: (set, flags) => failed(cSignalfd(-1, set, flags)),
  flock: (fd, operation) => failed(cFlock(fd, operation)),
  ftruncate: (fd, length) => failed(cFtruncate(fd, length)),
  getpid: () => process.pid,
  gettid: () => cGettid(),
  tgkill: (pid, tid, signal) => failed(cTgkill(pid, tid, signal)),
  // pthread_sigmask returns the error number itself.
  sigmask: (how, set, old) => -cSigmask(how, set, old),
  interruptOn: (signal) => {
    // struct sigaction: sa_handler, sa_mask of 128 bytes, sa_flags, sa_restorer. The handler is a function that
    // takes a number and changes nothing: abs(3), which a signal may interrupt anything with.
    const action = new DataView(new ArrayBuffer(152));
    action.setBigUint64(0, BigInt(cDlsym(0, 'abs')), true);
    action.setUint32(136, SA_RESTART, true);
    return failed(cSigaction(signal, bytesOf(action), null));
  },
  sigtake: (set) => failed(cSigtimedwait(set, null, zeroTime)),
  timerCreate: (signal, tid) => {
    // struct sigevent: sigev_value 8 bytes, sigev_signo, sigev_notify, _tid (signal.h, bits/types/sigevent_t.h).
    sigevent.setUint32(8, signal, true);
    sigevent.setUint32(12, SIGEV_THREAD_ID, true);
    sigevent.setUint32(16, tid, true);
    const result = cTimerCreate(CLOCK_MONOTONIC, sigeventBytes, timerIdBytes);
    return result < 0 ? -koffi.errno() : Number(timerId.getBigUint64(0, true));
  },
  timerSet: (timer, firstNs, intervalNs) => {
    // struct itimerspec: it_interval, it_value; each tv_sec, tv_nsec of 8 bytes.
    itimerspec.setUint32(0, intervalNs / NS, true);
    itimerspec.setUint32(8, intervalNs % NS, true);
    itimerspec.setUint32(16, firstNs / NS, true);
    itimerspec.setUint32(24, firstNs % NS, true);
    return failed(cTimerSettime(timer, 0, itimerspecBytes, null));
  },
  timerDelete: (timer) => failed(cTimerDelete(timer)),
  memfdCreate: (name, flags) => failed(cMemfdCreate(name, flags)),
  fcntl: (fd, command, value) => failed(cFcntl(fd, command, value)),
  lseek: (fd, offset, whence) => failed(Number(cLseek(fd, offset, whence))),
};

/** Nanoseconds of processor time that the calling thread has had. */
export function threadNs(): number {
  cClockGettime(CLOCK_THREAD_CPUTIME_ID, timespecBytes);
  // Seconds and nanoseconds, 8 bytes each, which a thread's time does not fill.
  return timespec.getUint32(0, true) * NS + timespec.getUint32(8, true);
}
