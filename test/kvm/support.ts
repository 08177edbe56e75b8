/** What the KVM tests share: the named skip, machines, guests as bytes, and the loop that runs them. */
import { readdirSync, readFileSync } from 'node:fs';
import { KvmBackend, type KvmHandle, type KvmOptions } from '../../src/backends/kvm/backend.js';
import { kvm } from '../../src/backends/kvm/index.js';
import type { KvmMachine } from '../../src/backends/kvm/machine.js';
import { Bdf, Gpa, VgpuId } from '../../src/core/addresses.js';
import type { RamRegion } from '../../src/core/guest-ram.js';
import { type GvtOps, NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { IO_KIND_NAMES, type IoRequest } from '../../src/core/io-request.js';
import type { Machine } from '../../src/core/machine.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { libcSyscalls } from '../../src/native/libc.js';
import type { Syscalls } from '../../src/native/syscalls.js';

const probe = kvm.probe();

/** For tap's `skip`: the probe's reason, or false. */
export const noKvm: string | false = probe.available ? false : `no KVM: ${probe.reason}`;

export const MIB = 0x10_0000;
export const RAM: readonly RamRegion[] = [{ gpa: 0, size: MIB }];
/** MMIO that real mode reaches: the RAM of `SMALL_RAM` ends before it. */
export const SMALL_RAM: readonly RamRegion[] = [{ gpa: 0, size: 0x2_0000 }];
/** Where guests of bytes are loaded, and the port with which they say that they are done. */
export const IMAGE_GPA = Gpa(0x1000);
export const END_PORT = 0xf4;

export interface Setup {
  readonly ram?: readonly RamRegion[];
  readonly options?: KvmOptions;
  readonly sys?: Syscalls;
  readonly ops?: GvtOps;
}

/** A backend with one machine and one vGPU at 00:02.0. */
export function setup({ ram = RAM, options = {}, sys = libcSyscalls, ops = NULL_GVT_OPS }: Setup = {}) {
  const backend = new KvmBackend(sys, options);
  backend.hostInit(ops);
  const machine = backend.createMachine({ ram }) as KvmMachine;
  const handle = attach(backend, machine);
  return { backend, machine, handle };
}

export const attach = (backend: KvmBackend, machine: Machine, id = 1, bdf = 0x10): KvmHandle =>
  backend.attachVgpu({ id: VgpuId(id), vmId: machine.vmId, bdf: Bdf(bdf) }) as KvmHandle;

/** An agent that has booted, and the accesses that it made as text. Reads answer `answer`. */
export function bootAgent(machine: Machine, timeoutMs = 5000) {
  const seen: string[] = [];
  const state = { answer: 0x1122_3344, answerHigh: 0x5566_7788 };
  const agent = new GuestAgent(
    machine,
    (request) => {
      seen.push(describe(request));
      if (request.write) return;
      request.value[0] = state.answer;
      request.value[1] = state.answerHigh;
    },
    { timeoutMs },
  );
  agent.boot();
  return { agent, seen, state };
}

/** `mmio w4 0x80000 = 0x1122`, `pio r1 0x10`, `pci r2 0x10:0x4`; 8-byte values as high_low. */
export function describe({ kind, write, size, address, value, bdf }: IoRequest): string {
  const place = kind === 2 ? `0x${bdf.toString(16)}:0x${address.toString(16)}` : `0x${address.toString(16)}`;
  const [low, high] = [value[0] as number, value[1] as number];
  const data = size === 8 ? `0x${high.toString(16)}_${low.toString(16)}` : `0x${low.toString(16)}`;
  return `${IO_KIND_NAMES[kind]} ${write ? 'w' : 'r'}${size} ${place}${write ? ` = ${data}` : ''}`;
}

/**
 * Boots bytes and runs them until they write to `END_PORT`.
 * @param answer value of reads, in order, then 0
 * @returns the accesses before the end; the last line is `timeout` when the guest never ended
 */
export function runBytes(machine: Machine, image: readonly number[], answer: readonly number[] = [], timeoutMs = 2000): string[] {
  const seen: string[] = [];
  let reads = 0;
  machine.boot(IMAGE_GPA, Uint8Array.from(image));
  for (let accesses = 0; accesses < 20_000; accesses++) {
    const request = nextOrLate(machine, timeoutMs);
    if (request === undefined) return [...seen, 'timeout'];
    if (!request.write) request.value[0] = answer[reads++] ?? 0;
    const line = describe(request);
    const end = request.kind === 0 && request.write && request.address === END_PORT;
    if (!end) seen.push(line);
    machine.requests.complete(request);
    if (end) return seen;
  }
  return [...seen, 'endless'];
}

/** The next access, or undefined after `ms`: a wait may end early by a signal. */
export function nextOrLate(machine: Machine, ms: number): IoRequest | undefined {
  const deadline = performance.now() + ms;
  do {
    const request = machine.requests.next(ms);
    if (request !== undefined || machine.requests.stopped) return request;
  } while (performance.now() < deadline);
  return undefined;
}

/** A dword of guest memory through the handle. */
export function dword(handle: KvmHandle, gpa: number): number {
  const bytes = new Uint8Array(4);
  handle.readGpa(Gpa(gpa), bytes);
  return new DataView(bytes.buffer).getUint32(0, true);
}

/** What a leak shows up in. */
export interface Footprint {
  readonly fds: string[];
  readonly maps: number;
  readonly kvmMaps: number;
  readonly rssMib: number;
}

export function footprint(): Footprint {
  const maps = readFileSync('/proc/self/maps', 'utf8').trimEnd().split('\n');
  return {
    fds: readdirSync('/proc/self/fd'),
    maps: maps.length,
    kvmMaps: maps.filter((line) => line.includes('kvm') || line.includes('/dev/zero')).length,
    rssMib: process.memoryUsage.rss() / MIB,
  };
}
