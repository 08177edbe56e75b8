/** A guest with a vGPU whose blitter runs, and what feeds it by hand. */

import type { GvtOptions, VgpuSpec } from '../../src/core/gvt/gvt.js';
import { type BackendModule, dispatchRequest, GpuDriver, GuestAgent, Gvt } from '../../src/index.js';

const MIB = 0x10_0000;
/** Where `GpuDriver.start` maps guest memory, and what it leaves free there. */
const MAPPED = 0x10_0000;
const CONTEXT = 0x10_1000;
const RING = 0x10_4000;
export const FENCE = 0x10_5000;
export const BATCH = 0x11_0000;
const FRAMEBUFFER = 0x20_0000;
const BCS_ELSP = 0x2_2230;
export const GDRST = 0x941c;
export const GDRST_BLT = 1 << 3;
const FILL = 0x5430_0005;
export const BATCH_START = 0x1880_0001;
export const BATCH_END = 0x0500_0000;
export const FLUSH_DW_STORE = 0x1300_4002;

/** @param options of the device model. @param spec of the vGPU, where it is not the smallest type */
export function busyGuest(backend: BackendModule, options: GvtOptions = {}, spec: Partial<VgpuSpec> = {}) {
  const opened = backend.open();
  const machine = opened.createMachine({ ram: [{ gpa: 0, size: 16 * MIB }] });
  const gvt = new Gvt(opened, options);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId, ...spec });
  gvt.activate(vgpu);
  const agent = new GuestAgent(machine, (request) => dispatchRequest(gvt, request), {
    timeoutMs: 10_000,
    hasWork: () => gvt.hasWork,
    onIdle: () => gvt.runSlice(4096),
  });
  agent.boot();
  const driver = new GpuDriver(agent, 1024, 768);
  const device = driver.probe();
  driver.start();
  const gpu = (gpa: number): number => device.aperture.address + gpa - MAPPED;
  const submit = (ring: readonly number[], batch: readonly number[]): void => {
    agent.stream(BATCH, batch);
    agent.stream(RING, ring);
    const state = CONTEXT + 4096;
    agent.write(state + 0x14, 4, 0);
    agent.write(state + 0x1c, 4, ring.length * 4);
    agent.write(state + 0x24, 4, gpu(RING));
    agent.write(state + 0x2c, 4, 1);
    // Valid, 32-bit addressing, privileged.
    port();
  };
  const port = (): void => {
    for (const dword of [0, 0, 1, gpu(CONTEXT) | 0x109]) agent.write(device.bar0.address + BCS_ELSP, 4, dword);
  };
  /** The ring that was submitted last, again: four no-operations where there was none. */
  const submitTiny = (): void => {
    if (!tiny) submit([0, 0, 0, 0], []);
    tiny = true;
    agent.write(CONTEXT + 4096 + 0x14, 4, 0);
    port();
  };
  let tiny = false;
  const fill = (rop: number): number[] => [FILL, ((3 << 24) | (rop << 16) | 4096) >>> 0, 0, (767 << 16) | 1023, gpu(FRAMEBUFFER), 0, 7];
  /** A batch that inverts the whole screen, over and over: the slow kind of blit, a slice takes longer than the kick's period. */
  const submitEndless = (): void => {
    const slow = [0, 1, 2, 3].flatMap(() => fill(0x55));
    submit([BATCH_START, gpu(BATCH), 0, 0], [...slow, BATCH_START, gpu(BATCH), 0]);
  };
  return { submitEndless, submitTiny, opened, machine, gvt, vgpu, agent, device, gpu, submit, fill };
}
