/** What the tests on real Xen share. They run in dom0: `npm run lab:xen -- --job tests`. Elsewhere they are skipped. */
import { readdirSync } from 'node:fs';
import { XENCTRL } from '../../src/backends/xen/abi.js';
import { XenBackend, type XenOptions } from '../../src/backends/xen/backend.js';
import type { XenHandle } from '../../src/backends/xen/handle.js';
import { xen } from '../../src/backends/xen/index.js';
import type { XenMachine } from '../../src/backends/xen/machine.js';
import { Recorder } from '../../src/conformance/recorder.js';
import type { AccessValue, IoRequest } from '../../src/core/io-request.js';
import type { Machine } from '../../src/core/machine.js';
import { bdf, Gpa, MptError, VgpuId, type VmId } from '../../src/core/mpt.js';
import { AGENT_COMMANDS, AGENT_GPA, AGENT_IMAGE, type AgentOptions, GuestAgent } from '../../src/guest/agent.js';
import { libcSyscalls } from '../../src/native/libc.js';
import type { XenCalls } from '../../src/native/xen-calls.js';

const probe = xen.probe();
/** Reason to skip, or false in dom0. */
export const skip: string | false = probe.available ? false : `xen: ${probe.reason}`;

export const MIB = 0x10_0000;
/** RAM that the tests' guests have: 4 MiB at 0, the scratch page at 1 MiB. */
export const RAM = [{ gpa: 0, size: 4 * MIB }];
export const SCRATCH = MIB;
/** No RAM, no device. */
export const BAR = 16 * MIB;
export const VGPU = bdf(0, 2, 0);

export interface Rig {
  readonly backend: XenBackend;
  readonly recorder: Recorder;
  readonly machine: XenMachine;
  readonly handle: XenHandle;
  readonly agent: GuestAgent;
  /** `run` is called while the host waits for the guest. */
  readonly idle: { run?: () => void };
  close(): void;
}

export interface RigOptions extends AgentOptions {
  readonly ram?: readonly { readonly gpa: number; readonly size: number }[];
  readonly xen?: XenOptions;
  readonly wrap?: (calls: XenCalls) => XenCalls;
}

/** A domain with vGPU 1 and a booted agent. */
export function rig({ ram = RAM, xen: options = {}, wrap, ...agentOptions }: RigOptions = {}): Rig {
  const backend = new XenBackend(libcSyscalls, options, wrap);
  const recorder = new Recorder();
  backend.hostInit(recorder);
  const machine = backend.createMachine({ ram }) as XenMachine;
  const handle = attach(backend, machine.vmId);
  const idle: Rig['idle'] = {};
  const onIdle = { onIdle: () => idle.run?.(), hasWork: () => idle.run !== undefined };
  const agent = bootAgent(machine, recorder, { ...onIdle, ...agentOptions });
  return { backend, recorder, machine, handle, agent, idle, close: () => backend.close() };
}

export const attach = (backend: XenBackend, vmId: VmId, id = 1): XenHandle =>
  backend.attachVgpu({ id: VgpuId(id), vmId, bdf: VGPU }) as XenHandle;

export function bootAgent(machine: Machine, recorder: Recorder, options: AgentOptions = {}): GuestAgent {
  const agent = new GuestAgent(machine, (request) => recorder.dispatch(machine.vmId, request), options);
  agent.boot();
  return agent;
}

/** Where the agent fetches its next command: `mov edx, AGENT_PORT` (agent.lst, label `next`). */
const AGENT_NEXT = 0x8091;

const dword = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];

/** A few instructions, by name: flat 32-bit protected mode. */
export const asm = {
  eax: (value: number): number[] => [0xb8, ...dword(value)],
  ecx: (value: number): number[] => [0xb9, ...dword(value)],
  edx: (value: number): number[] => [0xba, ...dword(value)],
  ebx: (value: number): number[] => [0xbb, ...dword(value)],
  esi: (value: number): number[] => [0xbe, ...dword(value)],
  edi: (value: number): number[] => [0xbf, ...dword(value)],
  cld: [0xfc],
  std: [0xfd],
  repMovsd: [0xf3, 0xa5],
  repMovsb: [0xf3, 0xa4],
  repStosd: [0xf3, 0xab],
  repInsd: [0xf3, 0x6d],
  repOutsd: [0xf3, 0x6f],
  repOutsb: [0xf3, 0x6e],
  vmmcall: [0x0f, 0x01, 0xd9],
  storeEax: (gpa: number): number[] => [0xa3, ...dword(gpa)],
  /** inc dword ptr [gpa] */
  incDword: (gpa: number): number[] => [0xff, 0x05, ...dword(gpa)],
} as const;

/** Runs code in the guest, at the scratch page's second half, and comes back to the agent. */
export function runCode({ agent, handle }: Rig, ...code: readonly (readonly number[])[]): void {
  const at = SCRATCH + 0x800;
  const bytes = [...code.flat()];
  // jmp rel32 to the agent's loop
  bytes.push(0xe9, ...dword(AGENT_NEXT - (at + bytes.length + 5)));
  handle.writeGpa(Gpa(at), Uint8Array.from(bytes));
  // The last entry of the agent's command table is `spin`.
  const table = AGENT_GPA + AGENT_IMAGE.length - 4;
  const { opcode } = AGENT_COMMANDS.spin;
  if (opcode !== Object.keys(AGENT_COMMANDS).length - 1) throw new Error('spin is not the last command');
  handle.writeGpa(Gpa(table), Uint8Array.from(dword(at)));
  agent.spin();
}

export const peek = (handle: XenHandle, gpa: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  handle.readGpa(Gpa(gpa), bytes);
  return bytes;
};

/** Answers reads with a counter, so that each can be told apart. */
export function counting(recorder: Recorder): void {
  let next = 0x1000;
  recorder.answer = { low: next++, high: 0 };
  // Called after the access was answered: what is set here is for the next one.
  recorder.onAccess = ({ write }) => {
    if (!write) recorder.answer = { low: next++, high: 0 };
  };
}

/** Completes requests by hand for `ms` or until `done`. */
export function serve(machine: XenMachine, ms: number, answer: (request: IoRequest, value: AccessValue) => boolean): void {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    const request = machine.requests.next(20);
    if (request === undefined) continue;
    const done = answer(request, request.value);
    machine.requests.complete(request);
    if (done) return;
  }
}

/** The MptError that `run` throws. */
export function failure(run: () => unknown): MptError {
  try {
    run();
  } catch (error) {
    if (MptError.is(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

export interface XenFigures {
  readonly domains: readonly number[];
  /** Free pages of Xen's heap, those that are being scrubbed included. */
  readonly freePages: number;
  readonly fds: number;
}

/** What a leak would change. */
export function figures(calls: XenCalls): XenFigures {
  const { xc_domaininfo_t: INFO, xc_physinfo_t: PHYS } = XENCTRL['4.17'];
  const info = new Uint8Array(INFO.size);
  const domains: number[] = [];
  for (let domid = calls.domainInfo(0, info); domid >= 0; domid = calls.domainInfo(domid + 1, info)) domains.push(domid);
  const physical = new Uint8Array(PHYS.size);
  calls.physinfo(physical);
  const view = new DataView(physical.buffer);
  const freePages = Number(view.getBigUint64(PHYS.free_pages, true) + view.getBigUint64(PHYS.scrub_pages, true));
  return { domains, freePages, fds: readdirSync('/proc/self/fd').length };
}
