/**
 * The main job, on the device thread: creates a VM with a vGPU, lets the guest agent drive the device until the test card
 * is drawn, and takes the picture that the vGPU's primary plane shows.
 */

import { findBackend } from '../backends/index.js';
import { MptError } from '../core/errors.js';
import { dispatchRequest } from '../core/gvt/dispatch.js';
import type { Gvt } from '../core/gvt/gvt.js';
import type { Machine } from '../core/machine.js';
import type { MptBackend } from '../core/mpt-backend.js';
import type { Job, JobContext } from '../device-thread/protocol.js';
import { AGENT_FREE_GPA, AGENT_GPA, AGENT_PORT, AGENT_PORTS_SIZE, GuestAgent } from '../guest/agent.js';
import { type DeviceInfo, DRIVER_GPA, GpuDriver, requiredRam } from '../guest/gpu-driver.js';
import { CARD_HEIGHT, CARD_WIDTH, testCard } from '../guest/test-card.js';
import { type OpenTrace, openGvt, openTrace, type Recorded } from '../recording/index.js';

const MIB = 0x10_0000;
/** Guest RAM is one region from 0: the agent, its structures and the framebuffer fit below 8 MiB. */
export const MIN_RAM_MIB = Math.ceil(requiredRam(CARD_WIDTH, CARD_HEIGHT) / MIB);
/** What agent and driver use. Between the two there may be a hole, as a PC has it below 1 MiB. */
const NEEDED_RAM = [
  [AGENT_GPA, AGENT_FREE_GPA],
  [DRIVER_GPA, requiredRam(CARD_WIDTH, CARD_HEIGHT)],
] as const;
/** Above this RAM would reach the hole in which the driver places BARs. */
export const MAX_RAM_MIB = 3072;

export interface RunInput {
  readonly backend: string;
  readonly options: Record<string, unknown>;
  /** A VM that exists already, by number or name, instead of a new one with `ramMiB`. */
  readonly domain?: number | string;
  readonly ramMiB: number;
  readonly type: string;
  /** File to record to. */
  readonly record?: string;
  /** Bytes that it has at most; a default where it is absent. */
  readonly recordLimit?: number | undefined;
  /** File for a trace in Chrome's trace-event format. */
  readonly trace?: string;
  readonly traceLimit?: number | undefined;
}

export interface RunOutput {
  readonly device: DeviceInfo & { readonly type: string };
  /** Exits counted by the backend, by kind. */
  readonly exits: Readonly<Record<string, number>>;
  /** Interrupts counted by the guest's own handler. */
  readonly interrupts: number;
  readonly workloads: number;
  readonly commands: number;
  readonly guestErrors: number;
  readonly picture: { readonly width: number; readonly height: number; readonly rgba: Uint8Array };
}

/** What the job tells while it runs. */
export interface RunNotice {
  readonly type: 'complaint';
  readonly text: string;
}

/** Commands that the engine executes in one slice while the guest waits. */
const SLICE_COMMANDS = 4096;

export const job: Job<RunInput, RunOutput> = (input, context) => {
  if (!Number.isInteger(input.ramMiB) || input.ramMiB < MIN_RAM_MIB || input.ramMiB > MAX_RAM_MIB)
    throw new MptError('INVALID_ARGUMENT', `${input.ramMiB} MiB of guest RAM are not in ${MIN_RAM_MIB}..${MAX_RAM_MIB}`, {
      op: 'run',
      size: input.ramMiB,
      limit: input.ramMiB < MIN_RAM_MIB ? MIN_RAM_MIB : MAX_RAM_MIB,
      hint: 'set --ram or ramMiB in the configuration',
    });
  const backend = findBackend(input.backend).open(input.options);
  backend.stopFlag = context.stopFlag;
  let recorded: Recorded<Gvt> | undefined;
  let unrecorded: MptError | undefined;
  let trace: OpenTrace | undefined;
  try {
    if (input.trace !== undefined)
      trace = openTrace({
        path: input.trace,
        limit: input.traceLimit,
        onFailure: ({ message }) => context.notice({ type: 'complaint', text: `the trace has ended: ${message}` }),
      });
    const machine = openOrCreate(backend, input);
    let lastGuestError: string | undefined;
    const onGuestError = (_vgpu: number, what: string): void => {
      lastGuestError = what;
    };
    const record =
      input.record === undefined
        ? undefined
        : { path: input.record, limit: input.recordLimit, onFailure: (error: MptError) => (unrecorded = error) };
    recorded = openGvt(backend, { onGuestError, ...(trace === undefined ? {} : { trace: trace.log }) }, record);
    const gvt = recorded.device;
    const vgpu = gvt.createVgpu({ type: input.type, vmId: machine.vmId });
    gvt.activate(vgpu);
    const agent = new GuestAgent(machine, (request) => dispatchRequest(gvt, request), {
      onIdle: () => gvt.runSlice(SLICE_COMMANDS),
      hasWork: () => gvt.hasWork,
    });
    const { device, interrupts } = explained(
      () => drawTestCard(agent, context),
      () => lastGuestError,
    );
    const picture = vgpu.queryPlane();
    if (picture === undefined)
      throw new MptError('GUEST_FAULT', 'the primary plane shows nothing', { op: 'query_plane', hint: 'please report it' });
    const { workloads, commands, guestErrors } = vgpu.statistics;
    const exits = machine.exitCounts();
    gvt.deactivate(vgpu);
    gvt.destroyVgpu(vgpu);
    gvt.destroy();
    machine.close();
    recorded.close();
    if (unrecorded !== undefined) throw unrecorded;
    return { device: { ...device, type: input.type }, exits, interrupts, workloads, commands, guestErrors, picture };
  } finally {
    recorded?.close();
    backend.close();
    trace?.close();
  }
};

function openOrCreate(backend: MptBackend, { domain, ramMiB }: RunInput): Machine {
  if (domain === undefined) return backend.createMachine({ ram: [{ gpa: 0, size: ramMiB * MIB }] });
  const machine = backend.openMachine(domain, { ports: [[AGENT_PORT, AGENT_PORT + AGENT_PORTS_SIZE - 1]] });
  const missing = NEEDED_RAM.find(([first, end]) => !machine.ram.some(({ gpa, size }) => gpa <= first && gpa + size >= end));
  if (missing === undefined) return machine;
  const [first, end] = missing;
  throw new MptError('NOT_RAM', `VM ${domain} has less RAM in one piece than the run needs`, {
    op: 'run',
    address: first,
    size: end - first,
    hint: `give it ${MIN_RAM_MIB} MiB or more`,
  });
}

/** A guest that waits in vain is told of what the vGPU refused it: the timeout itself says nothing of the cause. */
function explained<T>(run: () => T, lastGuestError: () => string | undefined): T {
  try {
    return run();
  } catch (error) {
    const refused = lastGuestError();
    if (!MptError.is(error, 'TIMEOUT') || refused === undefined) throw error;
    throw new MptError('TIMEOUT', error.text, { op: error.op ?? 'run', hint: `the vGPU's last complaint was: ${refused}`, cause: error });
  }
}

function drawTestCard(agent: GuestAgent, context: JobContext): { device: DeviceInfo; interrupts: number } {
  context.progress('booting the guest agent');
  agent.boot();
  const driver = new GpuDriver(agent, CARD_WIDTH, CARD_HEIGHT);
  const device = driver.probe();
  context.progress(`found ${device.id} at ${device.bdf}, vGPU ${device.vgpuId}`);
  driver.start();
  for (const group of testCard()) {
    const fence = driver.draw(group);
    context.progress(`workload ${fence}: ${group.name}, ${group.blits.length} blits`);
  }
  driver.show();
  return { device, interrupts: agent.interruptCount(driver.vector) };
}
