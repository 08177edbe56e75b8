/**
 * The one way from a guest access, as a backend delivers it, to the device model (facts: gvt.md 3, 5.4). The access is
 * always completed: what nobody claims, or the device model refuses, reads all ones and drops writes, as on a PCI bus.
 */
import { Gpa } from '../addresses.js';
import { type GvtOps, Status } from '../gvt-ops.js';
import { IoKind, type IoRequest } from '../io-request.js';

/** Data of a read, or effect of a write, whose `vgpu` and `kind` are filled in. */
function route(ops: GvtOps, { vgpu, kind, write, address, value, size }: IoRequest): Status {
  if (vgpu === 0) return Status.ENODEV;
  switch (kind) {
    case IoKind.MMIO:
      return write ? ops.emulateMmioWrite(vgpu, Gpa(address), value, size) : ops.emulateMmioRead(vgpu, Gpa(address), value, size);
    case IoKind.PCI_CONFIG:
      return write ? ops.emulateCfgWrite(vgpu, address, value, size) : ops.emulateCfgRead(vgpu, address, value, size);
    case IoKind.WP: {
      // A write-protected page is a tracked one, or with pvmmio part of the register file.
      const status = ops.writeProtectHandler(vgpu, Gpa(address), value, size);
      return status === Status.ENXIO ? ops.emulateMmioWrite(vgpu, Gpa(address), value, size) : status;
    }
    default:
      return Status.ENODEV;
  }
}

/**
 * Answers one access; never throws.
 * @returns how it went, for whoever counts: ENODEV when nobody claims it, EFAULT also for a handler that threw
 */
export function dispatchRequest(ops: GvtOps, request: IoRequest): Status {
  let status: Status;
  try {
    status = route(ops, request);
  } catch {
    status = Status.EFAULT;
  }
  if (status !== Status.OK && !request.write) request.value.fill(0xffff_ffff);
  return status;
}
