/** Jobs for the device-thread tests: what a device thread can be stuck in. */
import { kvm } from '../../src/backends/kvm/index.js';
import { Gpa } from '../../src/core/addresses.js';
import { MptError } from '../../src/core/errors.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import type { Job } from '../../src/device-thread/protocol.js';

/** Real-mode code at 0x8000. */
const GUESTS = {
  /** jmp $ */
  spin: [0xeb, 0xfe],
  /** cli; hlt */
  halt: [0xfa, 0xf4],
  /** mov ax,0xf000; mov ds,ax; l: mov [0],ax; jmp l — floods MMIO exits (nothing backs 0xf0000) */
  flood: [0xb8, 0x00, 0xf0, 0x8e, 0xd8, 0xa3, 0x00, 0x00, 0xeb, 0xfb],
} as const;

export type StuckIn = keyof typeof GUESTS | 'between machines' | 'result' | 'failure' | 'defect';

export const job: Job<StuckIn, { exits: number }> = (what, context) => {
  if (what === 'failure') throw new MptError('LIMIT', 'on purpose', { op: 'job', limit: 3 });
  if (what === 'defect') throw new TypeError('a plain defect');
  const backend = kvm.open();
  backend.stopFlag = context.stopFlag;
  backend.hostInit(NULL_GVT_OPS);
  if (what === 'result') return { exits: 0 };
  const ram = [{ gpa: 0, size: 0x10_0000 - 0x1_0000 }];
  if (what === 'between machines') {
    context.progress('ready');
    for (;;) {
      const machine = backend.createMachine({ ram });
      machine.boot(Gpa(0x8000), Uint8Array.from(GUESTS.spin));
      machine.requests.next(0.2);
      machine.close();
      if (context.stopped()) break;
    }
  } else {
    const machine = backend.createMachine({ ram });
    machine.boot(Gpa(0x8000), Uint8Array.from(GUESTS[what]));
    context.progress('ready');
    for (let request = machine.requests.next(); request !== undefined; request = machine.requests.next())
      machine.requests.complete(request);
  }
  backend.close();
  throw new MptError('STOPPED', 'as asked');
};
