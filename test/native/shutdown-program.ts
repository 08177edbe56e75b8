/**
 * Program of shutdown.ts: a worker that serves a guest that never ends, and a main thread that ends it or itself.
 * Arguments: guest, way, backend, its options as JSON. The main thread writes `ready` when the guest runs.
 */
import { writeSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { findBackend } from '../../src/backends/index.js';
import { Gpa } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import type { StopToken } from '../../src/core/machine.js';
import { stopThread } from '../../src/native/thread.js';

/** Where the guest is loaded, and the port with which it says that it runs. MMIO that real mode reaches is behind its RAM. */
const IMAGE_GPA = Gpa(0x1000);
const END_PORT = 0xf4;
const RAM = [{ gpa: 0, size: 0x2_0000 }];

interface GuestKind {
  readonly image: readonly number[];
  /** Argument of `next()`. */
  readonly timeoutMs: number;
}

/** Each says with an OUT that it runs, then does not end. */
const GUESTS: Readonly<Record<string, GuestKind>> = {
  spin: { image: [0xe6, END_PORT, 0xeb, 0xfe], timeoutMs: Number.POSITIVE_INFINITY }, //                       jmp $
  halt: { image: [0xe6, END_PORT, 0xf4, 0xeb, 0xfd], timeoutMs: Number.POSITIVE_INFINITY }, //                 hlt; jmp -3
  'halt, timed': { image: [0xe6, END_PORT, 0xf4, 0xeb, 0xfd], timeoutMs: 1 },
  // mov ax, 0x8000; mov ds, ax; mov [0], ax; jmp -5
  'mmio flood': {
    image: [0xe6, END_PORT, 0xb8, 0x00, 0x80, 0x8e, 0xd8, 0xa3, 0x00, 0x00, 0xeb, 0xfb],
    timeoutMs: Number.POSITIVE_INFINITY,
  },
  // cld; mov dx, 0x10; mov cx, 0xffff; rep outsb; jmp -7
  'string flood': {
    image: [0xe6, END_PORT, 0xfc, 0xba, 0x10, 0x00, 0xb9, 0xff, 0xff, 0xf3, 0x6e, 0xeb, 0xf9],
    timeoutMs: Number.POSITIVE_INFINITY,
  },
};

interface Input {
  readonly guest: string;
  readonly backend: string;
  readonly options: Record<string, unknown>;
}

function runGuest({ guest, backend: name, options }: Input): void {
  const { image, timeoutMs } = GUESTS[guest] as GuestKind;
  const backend = findBackend(name).open(options);
  backend.hostInit(NULL_GVT_OPS);
  const machine = backend.createMachine({ ram: RAM });
  machine.boot(IMAGE_GPA, Uint8Array.from(image));
  while (!machine.requests.stopped) {
    const request = machine.requests.next(timeoutMs);
    if (request === undefined) continue;
    if (request.address === END_PORT) parentPort?.postMessage(machine.stopToken);
    machine.requests.complete(request);
  }
  backend.close();
}

if (!isMainThread) runGuest(workerData as Input);
else {
  const [guest = '', way = '', backend = '', options = '{}'] = process.argv.slice(2);
  const input: Input = { guest, backend, options: JSON.parse(options) as Record<string, unknown> };
  const worker = new Worker(new URL(import.meta.url), { workerData: input });
  worker.on('message', (token: StopToken) => {
    process.on('exit', () => stopThread(token));
    writeSync(1, 'ready\n');
    if (way === 'stop') stopThread(token);
    else if (way === 'exit') process.exit(7);
    else if (way === 'throw') throw new Error('not caught');
  });
  worker.on('exit', (code) => writeSync(1, `worker ended with ${code}\n`));
}
