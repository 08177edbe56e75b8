/**
 * Program of native.test.ts: does what would end the process if mappings or signals were handled wrongly. Argument: the
 * name of a scenario. Prints `done` at the end of it.
 */
import { setFlagsFromString } from 'node:v8';
import { isMainThread, Worker } from 'node:worker_threads';
import { MptError } from '../../src/core/errors.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { OwnedMapping } from '../../src/native/mapping.js';
import { KICK_SIGNAL, stopThread, ThreadKick } from '../../src/native/thread.js';

const SIZE = 0x10_0000;

/** Hot functions, compiled by the optimizer while the memory is there and run again after it went. */
const sum = (view: Uint32Array): number => {
  let total = 0;
  for (let i = 0; i < 1024; i++) total += view[i] ?? 0;
  return total;
};
const fill = (view: Uint32Array, value: number): void => {
  for (let i = 0; i < 1024; i++) view[i] = value;
};
const wide = (view: BigUint64Array): bigint => view[3] ?? 0n;

function touchAfterClose(): void {
  const mapping = OwnedMapping.anonymous(libcSyscalls, SIZE, 'a test');
  const { buffer } = mapping;
  const words = new Uint32Array(buffer);
  const quads = new BigUint64Array(buffer, 4096);
  const inner = new Uint8Array(buffer, 8192, 64).subarray(8, 16);
  const data = new DataView(buffer);
  const node = Buffer.from(buffer);
  fill(words, 7);
  for (let i = 0; i < 5000; i++) {
    if (sum(words) !== 7 * 1024) throw new Error('memory does not hold');
    wide(quads);
  }
  mapping.close();
  fill(words, 9);
  if (sum(words) !== 0 || wide(quads) !== 0n || inner[0] !== undefined || node.length !== 0) throw new Error('a view outlived its memory');
  // Each either does nothing or is refused by JavaScript; none may reach the address.
  const harmless = [
    () => data.getUint32(0),
    () => data.setUint32(0, 1),
    () => Atomics.store(words, 0, 1),
    () => Atomics.load(words, 0),
    () => new Uint32Array(buffer),
    () => words.set([1, 2, 3]),
    () => inner.fill(1),
    () => node.fill(1),
    () => node.copy(new Uint8Array(16)),
    () => new Uint8Array(16).set(inner),
    () => node.readUInt32LE(0),
    () => Buffer.compare(node, Buffer.alloc(4)),
    () => structuredClone(buffer),
  ];
  for (const action of harmless) {
    try {
      action();
    } catch (error) {
      const refusal = error instanceof TypeError || error instanceof RangeError || (error as Error).name === 'DataCloneError';
      if (!refusal) throw error;
    }
  }
}

/** A wait that ends as soon as the signal is pending. */
function waitPending(take: () => number): number {
  const deadline = performance.now() + 2000;
  for (;;) {
    const signal = take();
    if (signal > 0 || performance.now() > deadline) return signal;
  }
}

const SCENARIOS: Readonly<Record<string, () => void | Promise<void>>> = {
  views: () => {
    for (let round = 0; round < 3; round++) touchAfterClose();
  },
  'views in a worker': async () => {
    const worker = new Worker(new URL(import.meta.url), { argv: ['views'] });
    const code = await new Promise((resolve) => worker.on('exit', resolve));
    if (code !== 0) throw new Error(`the worker ended with ${code}`);
  },
  'close after garbage collection': () => {
    // V8 drops the code of functions that were not called for some collections and compiles them again when they are.
    setFlagsFromString('--stress-flush-code');
    const mapping = OwnedMapping.anonymous(libcSyscalls, SIZE, 'a test');
    const words = new Uint32Array(mapping.buffer);
    OwnedMapping.anonymous(libcSyscalls, SIZE, 'a test').close();
    for (let i = 0; i < 10; i++) globalThis.gc?.();
    mapping.close();
    if (words.length !== 0) throw new Error('a view outlived its memory');
  },
  'many threads start at once': async () => {
    if (!isMainThread) {
      const mapping = OwnedMapping.anonymous(libcSyscalls, 4096, 'a test');
      mapping.close();
      return;
    }
    const start = (): Promise<number> =>
      new Promise((resolve, reject) => {
        const worker = new Worker(new URL(import.meta.url), { argv: ['many threads start at once'] });
        worker.on('error', reject);
        worker.on('exit', resolve);
      });
    for (let round = 0; round < 4; round++) await Promise.all(Array.from({ length: 8 }, start));
  },
  'too large': () => {
    // More than one ArrayBuffer holds on any Node, but address space for it there is.
    for (const length of [2 ** 32 + 4096, 2 ** 36, 2 ** 40]) {
      try {
        OwnedMapping.anonymous(libcSyscalls, length, 'a test').close();
      } catch (error) {
        if (!(error instanceof MptError)) throw error;
      }
    }
  },
  'pending kick at close': () => {
    const kick = new ThreadKick(libcSyscalls);
    const token = { flag: new SharedArrayBuffer(4), tid: kick.tid, pid: kick.pid };
    for (let i = 0; i < 3; i++) stopThread(token);
    kick.arm(0.1);
    kick.close();
    kick.close();
    // The signal is unblocked again: one that was left pending would have ended the process by now.
    libcSyscalls.gettid();
  },
  'timer fires in the right thread': async () => {
    const set = new Uint8Array(128);
    set[(KICK_SIGNAL - 1) >> 3] = 1 << ((KICK_SIGNAL - 1) & 7);
    const kick = new ThreadKick(libcSyscalls);
    kick.arm(1);
    if (waitPending(() => libcSyscalls.sigtake(set)) !== KICK_SIGNAL) throw new Error('no kick');
    if (isMainThread) {
      const worker = new Worker(new URL(import.meta.url), { argv: ['timer fires in the right thread'] });
      const code = await new Promise((resolve) => worker.on('exit', resolve));
      if (code !== 0) throw new Error(`the worker ended with ${code}`);
    }
    kick.close();
  },
};

const name = process.argv[2] ?? '';
const scenario = SCENARIOS[name];
if (scenario === undefined) throw new Error(`no scenario '${name}'`);
await scenario();
if (isMainThread) process.stdout.write('done\n');
