/**
 * `submission`: what a guest's driver does for an empty submission, counted in the four stores to the port that it consists of; the
 * engine loads the context, finds its ring empty, writes two status entries and interrupts the guest. In C: four stores to a register.
 */
import type { Gpa } from '../../../src/core/addresses.js';
import { dispatchRequest } from '../../../src/core/gvt/dispatch.js';
import { Gvt } from '../../../src/core/gvt/gvt.js';
import { GuestAgent } from '../../../src/guest/agent.js';
import { BAR, BDF, openMachine } from '../../ours/guest.js';
import { nowNs, type Open } from '../../ours/sample.js';

const PAGE = 4096;
const BCS = 0x2_2000;
const [STATUS, CONTEXT, RING] = [0x100, 0x101, 0x103] as const;
const MSI_ADDRESS = 0xfee0_0000;
const MSI_VECTOR = 0x41;

/** @param argument `told`: with the guest's interrupt; `silent`: its interrupts are masked */
export const open: Open = ([argument]) => {
  const { backend, machine } = openMachine();
  const gvt = new Gvt(backend);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId, bdf: BDF, display: false });
  gvt.activate(vgpu);
  const agent = new GuestAgent(machine, (request) => void dispatchRequest(gvt, request), {
    onIdle: () => gvt.runSlice(1024),
    hasWork: () => gvt.hasWork,
  });
  agent.boot();
  const config: readonly (readonly [number, 1 | 2 | 4, number])[] = [
    [0x10, 4, BAR],
    [0x14, 4, 0],
    [0x04, 2, 6],
    [0x94, 4, MSI_ADDRESS],
    [0x98, 2, MSI_VECTOR],
    [0x92, 2, 1],
  ];
  for (const [register, size, value] of config) agent.pciWrite(BDF, register, size, value);
  agent.read64(BAR + 0x7_8000);
  const { start: aperture } = vgpu.resources.aperture;
  for (let page = 0; page < 4; page++) agent.write64(BAR + 0x80_0000 + (aperture / PAGE + page) * 8, (STATUS + page) * PAGE + 1, 0);
  const image = (CONTEXT + 1) * PAGE;
  for (const [offset, value] of [
    [0x14, 0],
    [0x1c, 0],
    [0x24, aperture + (RING - STATUS) * PAGE],
    [0x2c, 1],
  ] as const)
    agent.write(image + offset, 4, value);
  for (const [register, value] of [
    [BCS + 0x80, aperture],
    [BCS + 0x29c, 0x8000_8000],
    [0x4_4304, argument === 'told' ? 0 : 0xffff_ffff],
    [0x4_430c, 0xffff_ffff],
    [0x4_4200, 0x8000_0000],
  ] as const)
    agent.write(BAR + register, 4, value);
  // One value for all four dwords: an id that is the descriptor, and the context twice, which is one context.
  const descriptor = aperture + (CONTEXT - STATUS) * PAGE + 0x109;
  const { statistics } = vgpu;
  const status = new Uint8Array(4);
  return (count) => {
    const submissions = Math.max(1, Math.round(count / 4));
    const before = statistics.workloads;
    const start = nowNs();
    agent.burstWrite(BAR + BCS + 0x230, 4, descriptor, submissions * 4);
    const ns = nowNs() - start;
    vgpu.handle.readGpa((STATUS * PAGE + 0x7c) as Gpa, status);
    if (statistics.workloads - before !== submissions * 2 || vgpu.submission.hung(1) !== undefined)
      throw new Error(`${statistics.workloads - before} of ${submissions * 2} elements were accepted; ${vgpu.submission.hung(1)}`);
    return (ns / submissions / 4) * count;
  };
};
