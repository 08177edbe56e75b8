/** The backend with the whole device model: a vGPU whose BAR0 the guest itself has placed. */
import { Gfn, PAGE_SIZE } from '../../src/core/addresses.js';
import { dispatchRequest } from '../../src/core/gvt/dispatch.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { Status } from '../../src/core/gvt-ops.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { BAR, BDF, openMachine, type Scene, TRACKED } from './guest.js';

/** Registers of PCI configuration: BAR0, its high half, command with memory space and bus master. */
const BAR0 = 0x10;
const BAR0_HIGH = 0x14;
const COMMAND = 0x04;
const MEMORY_MASTER = 0x6;

export function gvtScene(track: boolean): Scene {
  const { backend, machine } = openMachine();
  const gvt = new Gvt(backend);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId, bdf: BDF });
  gvt.activate(vgpu);
  const agent = new GuestAgent(
    machine,
    (request) => {
      const status = dispatchRequest(gvt, request);
      if (status !== Status.OK) throw new Error(`the device model refused an access (${status})`);
    },
    { onIdle: () => gvt.runSlice(1024), hasWork: () => gvt.hasWork },
  );
  agent.boot();
  agent.pciWrite(BDF, BAR0, 4, BAR);
  agent.pciWrite(BDF, BAR0_HIGH, 4, 0);
  agent.pciWrite(BDF, COMMAND, 2, MEMORY_MASTER);
  let written = 0;
  if (track)
    vgpu.pageTrack.add(Gfn(TRACKED / PAGE_SIZE), {
      written: () => {
        written++;
        return Status.OK;
      },
      frameWritten: () => Status.OK,
    });
  const { statistics } = vgpu;
  return { agent, reported: () => (track ? written : statistics.mmioReads + statistics.mmioWrites) };
}
