/** A vGPU without a guest: its BARs placed, and what a driver writes written from here. */
import type { Gpa } from '../../../src/core/addresses.js';
import { Gvt } from '../../../src/core/gvt/gvt.js';
import type { Vgpu } from '../../../src/core/gvt/vgpu.js';
import { Status } from '../../../src/core/gvt-ops.js';
import { BDF, openMachine } from '../../ours/guest.js';

export const BAR0 = 0xe000_0000;
export const BCS = 0x2_2000;
export const PAGE = 4096;
const GGTT = 0x80_0000;

export interface BenchVgpu {
  readonly gvt: Gvt;
  readonly vgpu: Vgpu;
  /** A guest's store to BAR0. */
  write(offset: number, low: number, size?: number, high?: number): void;
  /** Dwords into guest RAM. */
  ram(gpa: number, dwords: ArrayLike<number>): void;
  /** Maps frames from `gfn` on in the GGTT, from the aperture's start on. */
  map(page: number, gfn: number, count: number): void;
}

/** @param ramBytes of the VM, from 0 on; touched as a whole, as the C programs do it */
export function openVgpu(ramBytes: number): BenchVgpu {
  const { backend, machine } = openMachine(ramBytes);
  const gvt = new Gvt(backend);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId, bdf: BDF, display: false });
  gvt.activate(vgpu);
  const { id, handle } = vgpu;
  const value = new Uint32Array(2);
  const checked = (status: Status): void => {
    if (status !== Status.OK) throw new Error(`the device model refused an access (${status})`);
  };
  const zeros = new Uint8Array(1 << 20);
  for (let gpa = 0; gpa < ramBytes; gpa += zeros.length) handle.writeGpa(gpa as Gpa, zeros);
  const self: BenchVgpu = {
    gvt,
    vgpu,
    write(offset, low, size = 4, high = 0) {
      value[0] = low;
      value[1] = high;
      checked(gvt.emulateMmioWrite(id, (BAR0 + offset) as Gpa, value, size));
    },
    ram(gpa, dwords) {
      const bytes = new Uint8Array(Uint32Array.from(dwords).buffer);
      handle.writeGpa(gpa as Gpa, bytes);
    },
    map(page, gfn, count) {
      const first = vgpu.resources.aperture.start / PAGE + page;
      for (let i = 0; i < count; i++) self.write(GGTT + (first + i) * 8, (gfn + i) * PAGE + 1, 8);
    },
  };
  value[1] = 0;
  for (const [offset, size, data] of [
    [0x10, 4, BAR0],
    [0x04, 2, 2],
  ] as const) {
    value[0] = data;
    checked(gvt.emulateCfgWrite(id, offset, value, size));
  }
  checked(gvt.emulateMmioRead(id, (BAR0 + 0x7_8000) as Gpa, value, 8));
  return self;
}
