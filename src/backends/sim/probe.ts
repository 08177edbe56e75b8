/** What the simulation offers. It needs nothing of the machine, so it is always available. */
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import type { ProbeResult } from '../module.js';

/** Version of the simulated machine: raised when a guest could see a difference. */
export const SIM_VERSION = 'simulation 1';

export const simCapabilities = (pageTrack: PageTrackLevel | null): Readonly<Capabilities> =>
  Object.freeze({
    pageTrack,
    mapGfnToMfn: true,
    setTrapArea: true,
    barAccess: false,
    wholeBus: true,
    setPvmmio: true,
    dom0Ready: true,
    setOpregion: true,
    setEdid: true,
    vfioDevice: true,
    isValidGfn: true,
    dmaPin: true,
    dmaHugePage: true,
    hostPages: true,
    machine: true,
    foreignVm: false,
    // There is no kernel that could raise a message while the device thread is elsewhere.
    msiEventfd: false,
  });

export const probeSim = (pageTrack: PageTrackLevel | null): ProbeResult => ({
  available: true,
  reason: 'part of this package; guest instructions are interpreted',
  version: SIM_VERSION,
  capabilities: simCapabilities(pageTrack),
});
