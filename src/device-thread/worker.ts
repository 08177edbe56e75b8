/** Entry of a device thread: publishes its thread id, runs the job, sends the result and ends. */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { MptError } from '../core/errors.js';
import { libcSyscalls, threadNs } from '../native/libc.js';
import { holdKickSignal } from '../native/thread.js';
import type { DeviceThreadData, DeviceThreadMessage, Job, JobRequest, RequestMessage } from './protocol.js';

const { jobUrl, modules, input: inputPort, control } = workerData as DeviceThreadData;
const words = new Int32Array(control);
const post = (message: DeviceThreadMessage, move: readonly ArrayBuffer[] = []): void => parentPort?.postMessage(message, move);

/** The job never returns to the event loop: requests are looked for, when the shared word says that there are any. */
function takeRequest(): JobRequest | undefined {
  if (Atomics.load(words, 2) === 0) return undefined;
  const received = receiveMessageOnPort(parentPort as MessagePort) as { message: RequestMessage } | undefined;
  if (received === undefined) return undefined;
  Atomics.sub(words, 2, 1);
  const { id, request } = received.message;
  return { request, reply: (value, move) => post({ type: 'reply', id, value }, move) };
}

// Held until the thread ends: a kick that arrives while no machine is open must find the signal blocked, or its default
// action would end the process.
Atomics.store(words, 1, holdKickSignal(libcSyscalls));
try {
  const given = new Promise<unknown>((resolve) => inputPort.once('message', resolve));
  const loaded = Promise.all([jobUrl, ...modules].map((url) => import(url)));
  // What failed is told to whoever gives the input.
  loaded.catch(() => undefined);
  const input = await given;
  inputPort.close();
  const [{ job }] = (await loaded) as [{ job: Job<unknown, unknown> }];
  // Loading takes a while; a stop that came meanwhile need not wait until the job has opened what it would only close.
  if (Atomics.load(words, 0) !== 0) throw new MptError('STOPPED', 'stopped before it began');
  const value = await job(input, {
    stopFlag: control,
    threadNs,
    stopped: () => Atomics.load(words, 0) !== 0,
    progress: (text) => post({ type: 'progress', text }),
    notice: (value) => post({ type: 'notice', value }),
    takeRequest,
  });
  post({ type: 'result', value });
} catch (error) {
  const typed = MptError.is(error)
    ? error
    : new MptError('INTERNAL', error instanceof Error ? (error.stack ?? error.message).split('\n').slice(0, 2).join(' ') : String(error));
  post({ type: 'failure', error: typed.toJSON() });
}
