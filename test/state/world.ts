/** A VM of a backend with a vGPU in it and a guest that queues work, and what is done with it: saved, destroyed, restored, in this VM or another. */
import { Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import type { Machine } from '../../src/core/machine.js';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import { dispatchRequest, GuestAgent, Gvt } from '../../src/index.js';
import { type Outcome, QueuedWork, RAM } from './queued-work.js';

/** RAM that the agent itself uses: another VM has its own agent. */
const AGENT = { first: 0x8000, end: 0x1_0000 } as const;

export class World {
  readonly backend: MptBackend;
  readonly machine: Machine;
  readonly gvt: Gvt;
  readonly agent: GuestAgent;
  vgpu: Vgpu | undefined;
  /** The engines get slices while the guest sleeps. */
  runs = false;

  constructor(backend: MptBackend) {
    this.backend = backend;
    this.machine = backend.createMachine({ ram: RAM });
    this.gvt = new Gvt(backend);
    this.agent = new GuestAgent(this.machine, (request) => dispatchRequest(this.gvt, request), {
      timeoutMs: 20_000,
      hasWork: () => this.runs && this.gvt.hasWork,
      onIdle: () => {
        if (this.runs) this.gvt.runSlice(512);
      },
    });
    this.agent.boot();
  }

  create(): void {
    this.vgpu = this.gvt.createVgpu({ type: 'GVTg_V4_8', vmId: this.machine.vmId });
    this.gvt.activate(this.vgpu);
  }

  /** Saves the vGPU, inactive, and destroys it. */
  take(): Uint8Array {
    const vgpu = this.vgpu as Vgpu;
    this.gvt.deactivate(vgpu);
    const state = this.gvt.saveVgpu(vgpu);
    this.gvt.destroyVgpu(vgpu);
    this.vgpu = undefined;
    return state;
  }

  restore(state: Uint8Array): void {
    this.vgpu = this.gvt.restoreVgpu({ vmId: this.machine.vmId }, state);
  }

  goOn(): void {
    this.gvt.activate(this.vgpu as Vgpu);
    this.runs = true;
  }

  /** Guest RAM, without what is the agent's. Needs a vGPU: it is its view of the guest. */
  memory(): Uint8Array {
    const bytes = new Uint8Array(RAM[0]?.size ?? 0);
    this.#handle.readGpa(Gpa(0), bytes);
    return bytes.fill(0, AGENT.first, AGENT.end);
  }

  setMemory(bytes: Uint8Array): void {
    for (const [first, end] of [
      [0, AGENT.first],
      [AGENT.end, bytes.length],
    ] as const)
      for (let at = first; at < end; at += PAGE_SIZE) this.#handle.writeGpa(Gpa(at), bytes, at, PAGE_SIZE);
  }

  close(): void {
    this.gvt.destroy();
    this.backend.close();
  }

  get #handle() {
    return (this.vgpu as Vgpu).handle;
  }
}

/** What the guest finds without any save in between. */
export function undisturbed(backend: MptBackend): Outcome {
  const world = new World(backend);
  world.create();
  const work = new QueuedWork(world.agent);
  work.queue();
  world.goOn();
  const outcome = work.finish();
  world.close();
  return outcome;
}
