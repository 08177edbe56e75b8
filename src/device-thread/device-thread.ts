/**
 * A device thread as the main thread sees it: starts a job in a worker, passes its progress on, stops it within a
 * deadline.
 *
 * A worker that blocks in KVM_RUN cannot be terminated by Node, and `process.exit()` would wait for it for ever. The
 * thread therefore publishes its kernel thread id first, and `stop()` as well as the process's exit handler signal it.
 */
import type { Worker } from 'node:worker_threads';
import { EventEmitter } from 'eventemitter3';
import { MptError } from '../core/errors.js';
import { stopThread } from '../native/thread.js';
import type { DeviceThreadMessage, RequestMessage } from './protocol.js';
import { SpareThread, type ThreadOptions } from './spare-thread.js';

export interface DeviceThreadEvents {
  progress: (text: string) => void;
  /** What the job told by `notice`. */
  notice: (value: unknown) => void;
}

/** Kicks after a stop that was not obeyed at once: the thread may be between two waits of another machine. */
const KICK_INTERVAL_MS = 10;
const DEFAULT_DEADLINE_MS = 2000;

const running = new Set<DeviceThread<unknown>>();
let exitHooked = false;

export class DeviceThread<Output> extends EventEmitter<DeviceThreadEvents> {
  /** Settles when the job ended: its result, or the MptError it failed with (STOPPED after a stop). */
  readonly result: Promise<Output>;
  readonly #worker: Worker;
  readonly #control: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #ended: Promise<void>;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
  #requests = 0;

  /**
   * @param job module that exports `job`, as `new URL('./x.js', import.meta.url)`, or a thread that has loaded it
   * @param options for a thread that is started here
   */
  constructor(job: URL | SpareThread, input: unknown, options: ThreadOptions = {}) {
    super();
    const thread = job instanceof SpareThread ? job : new SpareThread(job, options);
    this.#worker = thread.worker;
    this.#control = thread.control;
    this.#words = new Int32Array(this.#control);
    hookExit();
    running.add(this as DeviceThread<unknown>);
    let outcome: DeviceThreadMessage | undefined;
    this.#worker.on('message', (message: DeviceThreadMessage) => {
      if (message.type === 'progress') this.emit('progress', message.text);
      else if (message.type === 'notice') this.emit('notice', message.value);
      else if (message.type === 'reply') this.#answer(message.id, message.value);
      else outcome = message;
    });
    let crash: unknown;
    this.#worker.on('error', (error) => {
      crash = error;
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        running.delete(this as DeviceThread<unknown>);
        for (const { reject } of this.#waiting.values()) reject(new MptError('STOPPED', 'the device thread ended'));
        this.#waiting.clear();
        resolve();
      });
    });
    this.result = this.#ended.then(() => {
      if (outcome?.type === 'result') return outcome.value as Output;
      if (outcome?.type === 'failure') throw MptError.fromJSON(outcome.error);
      if (Atomics.load(this.#words, 0) !== 0) throw new MptError('STOPPED', 'the device thread was stopped');
      throw new MptError('INTERNAL', 'the device thread ended without a result', crash === undefined ? {} : { cause: crash });
    });
    // Whoever awaits `result` sees the failure; nobody has to.
    this.result.catch(() => undefined);
    thread.begin(input);
  }

  /** The kernel's number of the thread; 0 until it runs. */
  get threadId(): number {
    return Atomics.load(this.#words, 1);
  }

  /**
   * Asks the thread to stop and waits until it has ended; after the deadline it is terminated.
   * @returns true when it ended by itself
   */
  async stop(deadlineMs = DEFAULT_DEADLINE_MS): Promise<boolean> {
    this.kick();
    const kicks = setInterval(() => this.kick(), KICK_INTERVAL_MS);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), deadlineMs);
    });
    const inTime = await Promise.race([this.#ended.then(() => true), late]);
    if (!inTime) await this.#worker.terminate();
    clearInterval(kicks);
    clearTimeout(timer);
    return inTime;
  }

  /** Asks the running job something. @throws MptError STOPPED when the thread ended, or ends before it answered */
  request(request: unknown): Promise<unknown> {
    if (!running.has(this as DeviceThread<unknown>)) return Promise.reject(new MptError('STOPPED', 'the device thread ended'));
    const id = ++this.#requests;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, request } satisfies RequestMessage);
      Atomics.add(this.#words, 2, 1);
    });
  }

  #answer(id: number, value: unknown): void {
    this.#waiting.get(id)?.resolve(value);
    this.#waiting.delete(id);
  }

  /** Sets the stop flag and signals the thread, unless it ended: its id may be another's by now. Synchronous: also for exit handlers. */
  kick(): void {
    if (!running.has(this as DeviceThread<unknown>)) return;
    stopThread({ flag: this.#control, tid: Atomics.load(this.#words, 1), pid: process.pid });
  }
}

/** One exit handler for all device threads. It runs at `process.exit()` and after an uncaught exception too. */
function hookExit(): void {
  if (exitHooked) return;
  exitHooked = true;
  process.on('exit', () => {
    for (const thread of running) thread.kick();
  });
}
