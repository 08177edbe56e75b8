/** uffd: what this machine offers. */
import { call, openUserfaultfd } from './calls.mjs';

export const VERSION = 'userfaultfd, asynchronous write protection';

export const CAPABILITIES = Object.freeze({
  pageTrack: 'sync',
  mapGfnToMfn: false,
  setTrapArea: true,
  barAccess: false,
  wholeBus: true,
  setPvmmio: false,
  dom0Ready: false,
  setOpregion: false,
  setEdid: false,
  vfioDevice: false,
  isValidGfn: true,
  dmaPin: true,
  dmaHugePage: true,
  hostPages: false,
  machine: true,
  foreignVm: false,
  msiEventfd: false,
});

/** Opens a userfaultfd with the features that are needed, and closes it. */
export function probe() {
  try {
    call('close', openUserfaultfd());
  } catch (error) {
    return { available: false, reason: `no userfaultfd with asynchronous write protection (Linux 6.7 or later, root): ${error.message}` };
  }
  return { available: true, reason: 'userfaultfd has asynchronous write protection', version: VERSION, capabilities: CAPABILITIES };
}
