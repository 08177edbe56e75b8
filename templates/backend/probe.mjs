/**
 * scaffold: what this machine offers.
 *
 * Replace: open the device, ask for the interface's version, look for each extension that a capability stands on. Probing has no side
 * effects and never throws: what is missing becomes `reason`, with how to get it.
 */

export const VERSION = '1';

/**
 * What the backend declares. Start with everything false and null; turn a flag on when its operation is written, and the suite's skipped
 * cases become real ones. Each flag's comment in `core/capabilities` says what the core does without it.
 */
export const CAPABILITIES = Object.freeze({
  pageTrack: 'trap',
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

export const probe = () => ({
  available: true,
  reason: 'guest memory is memory of this process',
  version: VERSION,
  capabilities: CAPABILITIES,
});
