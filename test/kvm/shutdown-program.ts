/**
 * Program of shutdown.test.ts: a worker whose vCPU runs a guest that never ends, and a main thread that ends it or itself.
 * Arguments: guest, way. The main thread writes `ready` when the guest runs.
 */
import { writeSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { StopToken } from '../../src/core/machine.js';
import { stopThread } from '../../src/native/thread.js';
import { END_PORT, IMAGE_GPA, SMALL_RAM, setup } from './support.js';

interface GuestKind {
  readonly image: readonly number[];
  /** Argument of `next()`. */
  readonly timeoutMs: number;
}

/** Each says with an OUT that it runs, then does not end. */
const GUESTS: Readonly<Record<string, GuestKind>> = {
  spin: { image: [0xe6, END_PORT, 0xeb, 0xfe], timeoutMs: 0 }, //                       jmp $
  halt: { image: [0xe6, END_PORT, 0xf4, 0xeb, 0xfd], timeoutMs: 0 }, //                 hlt; jmp -3
  'halt, timed': { image: [0xe6, END_PORT, 0xf4, 0xeb, 0xfd], timeoutMs: 1 },
  // mov ax, 0x8000; mov ds, ax; mov [0], ax; jmp -5
  'mmio flood': { image: [0xe6, END_PORT, 0xb8, 0x00, 0x80, 0x8e, 0xd8, 0xa3, 0x00, 0x00, 0xeb, 0xfb], timeoutMs: 0 },
  // cld; mov dx, 0x10; mov cx, 0xffff; rep outsb; jmp -7
  'string flood': { image: [0xe6, END_PORT, 0xfc, 0xba, 0x10, 0x00, 0xb9, 0xff, 0xff, 0xf3, 0x6e, 0xeb, 0xf9], timeoutMs: 0 },
};

function runGuest(name: string): void {
  const { image, timeoutMs } = GUESTS[name] as GuestKind;
  const { backend, machine } = setup({ ram: SMALL_RAM });
  machine.boot(IMAGE_GPA, Uint8Array.from(image));
  while (!machine.requests.stopped) {
    const request = machine.requests.next(timeoutMs);
    if (request === undefined) continue;
    if (request.address === END_PORT) parentPort?.postMessage(machine.stopToken);
    machine.requests.complete(request);
  }
  backend.close();
}

if (!isMainThread) runGuest(workerData as string);
else {
  const [guest = '', way = ''] = process.argv.slice(2);
  const worker = new Worker(new URL(import.meta.url), { workerData: guest });
  worker.on('message', (token: StopToken) => {
    process.on('exit', () => stopThread(token));
    writeSync(1, 'ready\n');
    if (way === 'stop') stopThread(token);
    else if (way === 'exit') process.exit(7);
    else if (way === 'throw') throw new Error('not caught');
  });
  worker.on('exit', (code) => writeSync(1, `worker ended with ${code}\n`));
}
