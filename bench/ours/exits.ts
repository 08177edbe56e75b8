/**
 * `exits mmio-read|mmio-write|page-track bare|gvt`: round trips through the whole path of an access, KVM_RUN's exit to
 * `IoRequest` to handler to completion. `bare` ends in a handler of a few lines, `gvt` in the vGPU's register file and page
 * tracker.
 */

import { bareScene } from './bare-scene.js';
import { REGISTER_GPA, TRACKED } from './guest.js';
import { nowNs, type Open } from './sample.js';

export const open: Open = async ([what, model]) => {
  const track = what === 'page-track';
  const { agent, reported } = model === 'bare' ? bareScene(track) : (await import('./gvt-scene.js')).gvtScene(track);
  const address = track ? TRACKED : REGISTER_GPA;
  return (count) => {
    const before = reported();
    const start = nowNs();
    if (what === 'mmio-read') agent.burstRead(address, 4, count);
    else agent.burstWrite(address, 4, 0x1234_5678, count);
    const ns = nowNs() - start;
    if (reported() - before !== count) throw new Error(`${reported() - before} of ${count} accesses arrived`);
    return ns;
  };
};
