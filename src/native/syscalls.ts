/**
 * The system calls that backends make, as an injectable interface: the real one (`libc.ts`) is the only file that
 * knows koffi; tests inject failures by wrapping it.
 *
 * Convention: a call returns its result, or minus the errno. It never throws.
 */

export interface Syscalls {
  open(path: string, flags: number): number;
  close(fd: number): number;
  /** ioctl whose argument is an integer. */
  ioctl(fd: number, request: number, value: number): number;
  /** ioctl whose argument points to `buffer`, valid only during the call. */
  ioctlBuffer(fd: number, request: number, buffer: Uint8Array): number;
  /** Anonymous or file mapping. @returns address, or minus errno */
  mmap(length: number, protection: number, flags: number, fd: number, offset: number): number;
  munmap(address: number, length: number): number;
  /** The mapped bytes. The address stays valid until `munmap`; detach the buffer first (`OwnedMapping`). */
  view(address: number, length: number): ArrayBuffer;
  eventfd(initial: number, flags: number): number;
  read(fd: number, buffer: Uint8Array): number;
  write(fd: number, buffer: Uint8Array): number;
  poll(fds: Uint8Array, count: number, timeoutMs: number): number;
  /** The same three with memory at a fixed address: 25 ns less each than a buffer. */
  readAt(fd: number, address: number, length: number): number;
  writeAt(fd: number, address: number, length: number): number;
  pollAt(fds: number, count: number, timeoutMs: number): number;
  /** Waits with the precision of the kernel's timers, where `poll` counts milliseconds. */
  ppoll(fds: Uint8Array, count: number, timeoutNs: number): number;
  /** Descriptor that is readable while a signal of `set` (128 bytes) is pending for the thread that polls it. */
  signalfd(set: Uint8Array, flags: number): number;
  flock(fd: number, operation: number): number;
  ftruncate(fd: number, length: number): number;
  getpid(): number;
  gettid(): number;
  /** Sends a signal to one thread of a process. */
  tgkill(pid: number, tid: number, signal: number): number;
  /** Changes the calling thread's signal mask. `set` is 128 bytes (sigset_t), `old` is filled when given. */
  sigmask(how: number, set: Uint8Array, old: Uint8Array): number;
  /**
   * From now on the signal does nothing in this process but end a system call that signals end whatever their handler wants: reads and
   * writes go on (SA_RESTART).
   */
  interruptOn(signal: number): number;
  /** Takes one pending signal of `set` (128 bytes) without waiting. @returns its number, or -EAGAIN */
  sigtake(set: Uint8Array): number;
  /** Timer on CLOCK_MONOTONIC that signals the calling thread. @returns timer id */
  timerCreate(signal: number, tid: number): number;
  /** Arms the timer after `firstNs`, then every `intervalNs`; 0 disarms. */
  timerSet(timer: number, firstNs: number, intervalNs: number): number;
  timerDelete(timer: number): number;
  /** An anonymous file. */
  memfdCreate(name: string, flags: number): number;
  /** fcntl whose argument is an integer. */
  fcntl(fd: number, command: number, value: number): number;
  lseek(fd: number, offset: number, whence: number): number;
}

/** Values of Linux on x86-64 (asm-generic/fcntl.h, mman-common.h, sys/eventfd.h, signal.h). */
export const O = { RDONLY: 0, RDWR: 2, ACCMODE: 3, CREAT: 0x40, EXCL: 0x80, NONBLOCK: 0x800, CLOEXEC: 0x8_0000, PATH: 0x20_0000 } as const;
export const PROT = { READ: 1, WRITE: 2 } as const;
export const MAP = { SHARED: 1, PRIVATE: 2, ANONYMOUS: 0x20, NORESERVE: 0x4000 } as const;
export const EFD = { CLOEXEC: 0x8_0000, NONBLOCK: 0x800 } as const;
export const SFD = { CLOEXEC: 0x8_0000, NONBLOCK: 0x800 } as const;
export const POLL = { IN: 1, OUT: 4, ERR: 8, HUP: 16, RDHUP: 0x2000 } as const;
export const SIG_BLOCK = 0;
export const SIG_UNBLOCK = 1;
export const SIG_SETMASK = 2;
/** The signal that takes a vCPU out of KVM_RUN. Blocked in the device thread, so no handler ever runs. */
export const SIGUSR2 = 12;
/** The first signal that glibc leaves to programs (SIGRTMIN): its handler does nothing, it only ends a wait. */
export const SIGRTMIN = 34;
export const SA_RESTART = 0x1000_0000;
export const MFD = { CLOEXEC: 1, ALLOW_SEALING: 2 } as const;
export const F = { GETFL: 3, SETFL: 4, DUPFD_CLOEXEC: 1030, ADD_SEALS: 1033, GET_SEALS: 1034 } as const;
export const SEAL = { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8 } as const;
export const SEEK = { SET: 0, CUR: 1, END: 2 } as const;
export const EINTR = 4;
export const EAGAIN = 11;

/** A sigset_t (128 bytes, bit n-1 for signal n) with one signal. */
export function signalSet(signal: number): Uint8Array {
  const set = new Uint8Array(128);
  set[(signal - 1) >> 3] = 1 << ((signal - 1) & 7);
  return set;
}
