/** What the ACRN tests share: the named skip, machines, and the stand-in's control device (labs/acrn). */
import { Control } from '../../labs/acrn/programs/control.js';
import { leftovers, type Report } from '../../labs/acrn/standin.js';
import { type AcrnBackend, type AcrnHandle, type AcrnMachine, type AcrnOptions, acrnModule } from '../../src/backends/acrn/index.js';
import { Bdf, VgpuId } from '../../src/core/addresses.js';
import type { RamRegion } from '../../src/core/guest-ram.js';
import { type GvtOps, NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import type { Machine } from '../../src/core/machine.js';
import type { HostPages } from '../../src/core/mpt.js';
import { libcSyscalls } from '../../src/native/libc.js';
import type { Syscalls } from '../../src/native/syscalls.js';

/** The ABIs that answer here: under the lab's stand-in or on a service VM. */
export const ABIS = (['hsm', 'vhm'] as const).filter((abi) => acrnModule(libcSyscalls).probe({ abi }).available);
/** For tap's `skip`. */
export const noAcrn: string | false = ABIS.length > 0 ? false : 'no ACRN here: npm run lab:acrn has a stand-in';
/** Where faults can be asked for. */
export const noStandIn: string | false =
  noAcrn || (process.env['ACRN_STANDIN'] === undefined ? 'a real ACRN: faults are for the stand-in' : false);

export const MIB = 0x10_0000;
export const RAM: readonly RamRegion[] = [{ gpa: 0, size: MIB }];
/** MMIO that real mode reaches: the RAM of `SMALL_RAM` ends before it. */
export const SMALL_RAM: readonly RamRegion[] = [{ gpa: 0, size: 0x2_0000 }];

export interface Setup {
  readonly ram?: readonly RamRegion[];
  readonly options?: AcrnOptions;
  readonly sys?: Syscalls;
  readonly ops?: GvtOps;
}

/** What a real machine wants besides (docs/acrn.md): a JSON object of the backend's options. */
const LOCAL = JSON.parse(process.env['ACRN_OPTIONS'] ?? '{}') as AcrnOptions;

export const open = (options: AcrnOptions = {}, sys: Syscalls = libcSyscalls): AcrnBackend =>
  acrnModule(sys).open({ ...LOCAL, ...options }) as AcrnBackend;

/** A backend with one machine and one vGPU at 00:02.0. */
export function setup({ ram = RAM, options = {}, sys = libcSyscalls, ops = NULL_GVT_OPS }: Setup = {}) {
  const backend = open(options, sys);
  backend.hostInit(ops);
  const machine = backend.createMachine({ ram }) as AcrnMachine;
  const handle = attach(backend, machine);
  return { backend, machine, handle };
}

export const attach = (
  backend: AcrnBackend,
  machine: Machine,
  pvmmio?: { readonly registerFile: HostPages; readonly sharedPage: HostPages },
): AcrnHandle =>
  backend.attachVgpu({ id: VgpuId(1), vmId: machine.vmId, bdf: Bdf(0x10), ...(pvmmio === undefined ? {} : { pvmmio }) }) as AcrnHandle;

const asked = <T>(ask: (control: Control) => T): T => {
  const control = new Control();
  try {
    return ask(control);
  } finally {
    control.close();
  }
};

/** Gives the stand-in one command (labs/acrn/README.md). */
export const standIn = (line: string): void => asked((control) => control.tell(line));

export const standInState = (): Report => asked((control) => control.state());

/** Hang-ups are seen a moment after a close: waits until the stand-in holds nothing. @returns what is left after a second */
export async function standInAtRest(): Promise<Report> {
  for (let tries = 0; ; tries++) {
    const state = standInState();
    if (leftovers(state) === undefined || tries === 50) return state;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
