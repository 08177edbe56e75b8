/**
 * `cold-start process START_NS`: prints the time from START_NS (the parent's CLOCK_MONOTONIC before it started this process) to
 * the guest's first exit. `cold-start machine`: the part of it from opening a VM to its first exit, for each count.
 */
import type { Machine } from '../../src/core/machine.js';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import { AGENT_GPA } from '../../src/guest/agent/protocol.js';
import { AGENT_IMAGE } from '../../src/guest/agent-image.js';
import { openBackend, RAM_SIZE } from './guest.js';
import { nowNs, type Open, report } from './sample.js';

function toFirstExit(backend: MptBackend): Machine {
  const machine = backend.createMachine({ ram: [{ gpa: 0, size: RAM_SIZE }] });
  machine.boot(AGENT_GPA, AGENT_IMAGE);
  const request = machine.requests.next();
  if (request === undefined) throw new Error('the guest made no access');
  return machine;
}

export const open: Open = ([what, startNs]) => {
  const backend = openBackend();
  if (what === 'process') {
    toFirstExit(backend);
    report(Number(process.hrtime.bigint() - BigInt(startNs as string)));
    return undefined;
  }
  return (count) => {
    let ns = 0;
    for (let i = 0; i < count; i++) {
      const start = nowNs();
      const machine = toFirstExit(backend);
      ns += nowNs() - start;
      machine.close();
    }
    return ns;
  };
};
