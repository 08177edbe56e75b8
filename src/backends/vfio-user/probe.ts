/** Whether this machine can carry us: all that is needed is the kernel's sockets and memory files. */
import type { Capabilities } from '../../core/capabilities.js';
import { errnoText } from '../../core/errors.js';
import { MFD } from '../../native/syscalls.js';
import type { ServerCalls } from '../../vfio/server.js';
import type { ProbeResult } from '../module.js';

export const VERSION = 'vfio-user 0.0';

const CAPABILITIES: Readonly<Capabilities> = Object.freeze({
  // The guest runs in the client's process: its writes are found by comparing pages.
  pageTrack: 'sync',
  mapGfnToMfn: false,
  // The client delivers the accesses to a BAR by itself.
  setTrapArea: false,
  barAccess: true,
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
  // VMs come to the socket; none can be taken up by name.
  foreignVm: false,
  msiEventfd: false,
});

const WITH_QEMU: Readonly<Capabilities> = Object.freeze({ ...CAPABILITIES, wholeBus: false });
/** VMs come to a socket, and none is made here. */
export const SERVING: Readonly<Capabilities> = Object.freeze({ ...WITH_QEMU, machine: false });

/** @param qemu VMs are made in QEMU, which has devices of its own */
export const capabilitiesOf = (qemu: boolean): Readonly<Capabilities> => (qemu ? WITH_QEMU : CAPABILITIES);

/** Never throws. */
export function probeVfioUser({ sys, sockets }: ServerCalls, qemu = false): ProbeResult {
  const fds = new Int32Array(2);
  const paired = sockets.socketpair(fds);
  if (paired < 0) return { available: false, reason: `no AF_UNIX sockets, errno ${errnoText(-paired)}` };
  for (const fd of fds) sys.close(fd);
  const memory = sys.memfdCreate('probe', MFD.CLOEXEC | MFD.ALLOW_SEALING);
  if (memory < 0) return { available: false, reason: `no memfd, errno ${errnoText(-memory)}` };
  sys.close(memory);
  return {
    available: true,
    reason: 'this process is the server; VMs connect to its socket',
    version: VERSION,
    capabilities: capabilitiesOf(qemu),
  };
}
