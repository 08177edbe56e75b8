/**
 * A thread that has loaded a job and waits for its input: loading is most of what a thread's start costs, and whoever waits for a device need
 * not wait for that. It has done nothing yet, and knows of no device.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import type { DeviceThreadData } from './protocol.js';

export interface ThreadOptions {
  /** MiB for short-lived objects: less memory for a job that hardly allocates. Default V8's own. */
  readonly youngGenerationMb?: number;
  /** Modules that the job will load for its input. */
  readonly modules?: readonly URL[];
}

export class SpareThread {
  readonly worker: Worker;
  /** [0] stop flag, [1] kernel thread id once the thread runs, [2] requests that wait: shared, so that neither side needs a message loop. */
  readonly control = new SharedArrayBuffer(12);
  readonly #input: MessagePort;
  #ended = false;

  /** @param jobUrl module that exports `job`, as `new URL('./x.js', import.meta.url)` */
  constructor(jobUrl: URL, { youngGenerationMb, modules = [] }: ThreadOptions = {}) {
    const { port1, port2 } = new MessageChannel();
    this.#input = port1;
    const data: DeviceThreadData = {
      jobUrl: jobUrl.href,
      modules: modules.map(({ href }) => href),
      input: port2,
      control: this.control,
    };
    this.worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: data,
      transferList: [port2],
      ...(youngGenerationMb === undefined ? {} : { resourceLimits: { maxYoungGenerationSizeMb: youngGenerationMb } }),
    });
    this.worker.unref();
    this.worker.on('exit', () => {
      this.#ended = true;
    });
    // One that failed is not used.
    this.worker.on('error', () => {});
  }

  /** It has ended without an input. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Lets the job begin, once. From now on the thread is the caller's. */
  begin(input: unknown): void {
    this.worker.ref();
    // The other side closes the port when it has it.
    this.#input.postMessage(input);
  }

  /** Ends one that did not begin. */
  async discard(): Promise<void> {
    this.#input.close();
    await this.worker.terminate();
  }
}
