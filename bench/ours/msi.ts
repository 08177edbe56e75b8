/** `msi`: inject_msi to a guest that is stopped in its fetch, with its local APIC on. */
import { GuestAgent } from '../../src/guest/agent.js';
import { openHandle } from './guest.js';
import { nowNs, type Open } from './sample.js';

/** As in bench/baseline/msi.c. */
const MSI_ADDRESS = 0xfee0_0000;
const MSI_VECTOR = 0x41;

export const open: Open = () => {
  const { machine, handle } = openHandle();
  const agent = new GuestAgent(machine, () => {});
  agent.boot();
  handle.injectMsi(MSI_ADDRESS, MSI_VECTOR);
  agent.waitInterrupt(MSI_VECTOR, 1);
  return (count) => {
    const start = nowNs();
    for (let i = 0; i < count; i++) handle.injectMsi(MSI_ADDRESS, MSI_VECTOR);
    return nowNs() - start;
  };
};
