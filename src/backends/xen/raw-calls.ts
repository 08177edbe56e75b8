/**
 * Xen's calls by the kernel's own interface, for a library that is missing: dm_op, foreign mappings and hypercalls through
 * /dev/xen/privcmd, event channels through /dev/xen/evtchn. These ABIs are stable; libxenctrl's is not and has no
 * stand-in here.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { OwnedFd } from '../../native/fd.js';
import { OwnedMapping } from '../../native/mapping.js';
import { MAP, O, PROT, type Syscalls } from '../../native/syscalls.js';
import type { XenDeviceModel, XenEventChannels, XenForeignMemory, XenHypercalls } from '../../native/xen-calls.js';
import { XEN_CONST as C, XEN_IOCTL as X, XEN_STRUCT } from './abi.js';

export const PRIVCMD = '/dev/xen/privcmd';
export const HYPERCALL_BUFFERS = '/dev/xen/hypercall';
export const EVTCHN = '/dev/xen/evtchn';

const ENOENT = 2;
const HIGH = 2 ** 32;

/** Little-endian u64 of a number below 2^53. */
export const putU64 = (view: DataView, at: number, value: number): void => {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / HIGH), true);
};

/** A page at a known address, in which arguments are laid out. */
class Scratch {
  readonly mapping: OwnedMapping;
  readonly view: DataView;
  readonly bytes: Uint8Array;

  constructor(mapping: OwnedMapping) {
    this.mapping = mapping;
    this.view = new DataView(mapping.buffer);
    this.bytes = new Uint8Array(mapping.buffer);
  }

  at(offset: number): number {
    return this.mapping.hva + offset;
  }
}

const scratch = (sys: Syscalls, pages = 1): Scratch =>
  new Scratch(OwnedMapping.anonymous(sys, pages * PAGE_SIZE, 'arguments of Xen calls'));

/** Where the parts of a dm_op lie in the scratch page. */
const DM = { request: 0, buffers: 64, op: 128 } as const;

/** @throws MptError HYPERVISOR when the device cannot be opened */
export function rawDeviceModel(sys: Syscalls): XenDeviceModel {
  const fd = new OwnedFd(sys, sys.open(PRIVCMD, O.RDWR | O.CLOEXEC), `opening ${PRIVCMD}`);
  const page = scratch(sys);
  const { xen_dm_op: OP, privcmd_dm_op: REQUEST, privcmd_dm_op_buf: BUFFER } = XEN_STRUCT;
  let bitmap: OwnedMapping | undefined;

  /** Issues the operation; `fill` writes its arguments at the given offset. `extra` is the second buffer. */
  const issue = (domid: number, op: number, fill: (view: DataView, at: number) => void, extra?: { at: number; size: number }): number => {
    const { view } = page;
    page.bytes.fill(0, DM.op, DM.op + OP.size);
    view.setUint32(DM.op + OP.op, op, true);
    fill(view, DM.op + OP.u);
    view.setUint16(DM.request + REQUEST.dom, domid, true);
    view.setUint16(DM.request + REQUEST.num, extra === undefined ? 1 : 2, true);
    putU64(view, DM.request + REQUEST.ubufs, page.at(DM.buffers));
    putU64(view, DM.buffers + BUFFER.uptr, page.at(DM.op));
    putU64(view, DM.buffers + BUFFER.size_, OP.size);
    if (extra !== undefined) {
      putU64(view, DM.buffers + BUFFER.size + BUFFER.uptr, extra.at);
      putU64(view, DM.buffers + BUFFER.size + BUFFER.size_, extra.size);
    }
    return sys.ioctl(fd.fd, X.IOCTL_PRIVCMD_DM_OP, page.at(DM.request));
  };

  const range = (op: number, domid: number, id: number, type: number, start: number, end: number): number =>
    issue(domid, op, (view, at) => {
      const { xen_dm_op_ioreq_server_range: R } = XEN_STRUCT;
      view.setUint16(at + R.id, id, true);
      view.setUint32(at + R.type, type, true);
      putU64(view, at + R.start, start);
      putU64(view, at + R.end, end);
    });

  return {
    createIoreqServer: (domid, bufioreq) => {
      const { xen_dm_op_create_ioreq_server: A } = XEN_STRUCT;
      const result = issue(domid, C.XEN_DMOP_create_ioreq_server, (view, at) => view.setUint8(at + A.handle_bufioreq, bufioreq));
      return result < 0 ? result : page.view.getUint16(DM.op + OP.u + A.id, true);
    },
    ioreqServerPort: (domid, id) => {
      const { xen_dm_op_get_ioreq_server_info: A } = XEN_STRUCT;
      const result = issue(domid, C.XEN_DMOP_get_ioreq_server_info, (view, at) => {
        view.setUint16(at + A.id, id, true);
        view.setUint16(at + A.flags, C.XEN_DMOP_no_gfns, true);
      });
      return result < 0 ? result : page.view.getUint32(DM.op + OP.u + A.bufioreq_port, true);
    },
    mapIoRange: (...range_) => range(C.XEN_DMOP_map_io_range_to_ioreq_server, ...range_),
    unmapIoRange: (...range_) => range(C.XEN_DMOP_unmap_io_range_from_ioreq_server, ...range_),
    setIoreqServerState: (domid, id, enabled) =>
      issue(domid, C.XEN_DMOP_set_ioreq_server_state, (view, at) => {
        const { xen_dm_op_set_ioreq_server_state: A } = XEN_STRUCT;
        view.setUint16(at + A.id, id, true);
        view.setUint8(at + A.enabled, enabled ? 1 : 0);
      }),
    destroyIoreqServer: (domid, id) =>
      issue(domid, C.XEN_DMOP_destroy_ioreq_server, (view, at) =>
        view.setUint16(at + XEN_STRUCT.xen_dm_op_destroy_ioreq_server.id, id, true),
      ),
    mapMemType: (domid, id, type, flags) =>
      issue(domid, C.XEN_DMOP_map_mem_type_to_ioreq_server, (view, at) => {
        const { xen_dm_op_map_mem_type_to_ioreq_server: A } = XEN_STRUCT;
        view.setUint16(at + A.id, id, true);
        view.setUint16(at + A.type, type, true);
        view.setUint32(at + A.flags, flags, true);
      }),
    setMemType: (domid, type, gfn, nr) =>
      issue(domid, C.XEN_DMOP_set_mem_type, (view, at) => {
        const { xen_dm_op_set_mem_type: A } = XEN_STRUCT;
        view.setUint32(at + A.nr, nr, true);
        view.setUint16(at + A.mem_type, type, true);
        putU64(view, at + A.first_pfn, gfn);
      }),
    trackDirtyVram: (domid, gfn, nr, target) => {
      const size = Math.ceil(nr / 8);
      if (bitmap === undefined || bitmap.length < size) {
        bitmap?.close();
        bitmap = OwnedMapping.anonymous(sys, Math.max(1, Math.ceil(size / PAGE_SIZE)) * PAGE_SIZE, 'the dirty bitmap');
      }
      const { xen_dm_op_track_dirty_vram: A } = XEN_STRUCT;
      const fill = (view: DataView, at: number): void => {
        view.setUint32(at + A.nr, nr, true);
        putU64(view, at + A.first_pfn, gfn);
      };
      const result = issue(domid, C.XEN_DMOP_track_dirty_vram, fill, { at: bitmap.hva, size });
      if (result >= 0) target.set(new Uint8Array(bitmap.buffer, 0, Math.min(size, target.length)));
      return result;
    },
    injectMsi: (domid, address, data) =>
      issue(domid, C.XEN_DMOP_inject_msi, (view, at) => {
        const { xen_dm_op_inject_msi: A } = XEN_STRUCT;
        view.setUint32(at + A.data, data, true);
        putU64(view, at + A.addr, address);
      }),
    closeDeviceModel: () => {
      bitmap?.close();
      page.mapping.close();
      fd.close();
    },
  };
}

/** Frames that one ioctl maps here: what the argument page has room for. */
const BATCH = 256;

/** @throws MptError HYPERVISOR when the device cannot be opened */
export function rawForeignMemory(sys: Syscalls): XenForeignMemory {
  const fd = new OwnedFd(sys, sys.open(PRIVCMD, O.RDWR | O.CLOEXEC), `opening ${PRIVCMD}`);
  const page = scratch(sys, 2);
  const { privcmd_mmapbatch_v2: BATCH_ARGS, privcmd_mmap_resource: RESOURCE } = XEN_STRUCT;
  const GFNS = PAGE_SIZE;
  const ERRORS = GFNS + BATCH * 8;
  const reserve = (pages: number): number => sys.mmap(pages * PAGE_SIZE, PROT.READ | PROT.WRITE, MAP.SHARED, fd.fd, 0);

  return {
    mapForeign: (domid, gfns, errors) => {
      const address = reserve(gfns.length);
      if (address < 0) return address;
      const { view } = page;
      for (let done = 0; done < gfns.length; done += BATCH) {
        const count = Math.min(BATCH, gfns.length - done);
        for (let i = 0; i < count; i++) view.setBigUint64(GFNS + i * 8, gfns[done + i] as bigint, true);
        view.setUint32(BATCH_ARGS.num, count, true);
        view.setUint16(BATCH_ARGS.dom, domid, true);
        putU64(view, BATCH_ARGS.addr, address + done * PAGE_SIZE);
        putU64(view, BATCH_ARGS.arr, page.at(GFNS));
        putU64(view, BATCH_ARGS.err, page.at(ERRORS));
        const result = sys.ioctl(fd.fd, X.IOCTL_PRIVCMD_MMAPBATCH_V2, page.at(0));
        // ENOENT: some frame is paged out, which its own error tells.
        if (result < 0 && result !== -ENOENT) {
          sys.munmap(address, gfns.length * PAGE_SIZE);
          return result;
        }
        for (let i = 0; i < count; i++) errors[done + i] = view.getInt32(ERRORS + i * 4, true);
      }
      return address;
    },
    unmapForeign: (address, pages) => sys.munmap(address, pages * PAGE_SIZE),
    mapResource: (domid, type, id, frame, frames) => {
      const address = reserve(frames);
      if (address < 0) return address;
      const { view } = page;
      view.setUint16(RESOURCE.dom, domid, true);
      view.setUint32(RESOURCE.type, type, true);
      view.setUint32(RESOURCE.id, id, true);
      view.setUint32(RESOURCE.idx, frame, true);
      putU64(view, RESOURCE.num, frames);
      putU64(view, RESOURCE.addr, address);
      const result = sys.ioctl(fd.fd, X.IOCTL_PRIVCMD_MMAP_RESOURCE, page.at(0));
      if (result >= 0) return address;
      sys.munmap(address, frames * PAGE_SIZE);
      return result;
    },
    unmapResource: (address, frames) => sys.munmap(address, frames * PAGE_SIZE),
    closeForeignMemory: () => {
      page.mapping.close();
      fd.close();
    },
  };
}

/** A handle with ports of its own, or minus the errno. */
export function rawEventChannels(sys: Syscalls): XenEventChannels | number {
  const fd = sys.open(EVTCHN, O.RDWR | O.CLOEXEC);
  if (fd < 0) return fd;
  const owned = new OwnedFd(sys, fd, EVTCHN);
  const argument = new Uint32Array(2);
  const bytes = new Uint8Array(argument.buffer);
  const call = (request: number, a: number, b = 0): number => {
    argument[0] = a;
    argument[1] = b;
    return sys.ioctlBuffer(owned.fd, request, bytes);
  };
  return {
    fd,
    bindInterdomain: (domid, port) => call(X.IOCTL_EVTCHN_BIND_INTERDOMAIN, domid, port),
    unbind: (port) => call(X.IOCTL_EVTCHN_UNBIND, port),
    notify: (port) => call(X.IOCTL_EVTCHN_NOTIFY, port),
    close: () => owned.close(),
  };
}

/** @throws MptError HYPERVISOR when a device cannot be opened or mapped */
export function rawHypercalls(sys: Syscalls): XenHypercalls {
  const fd = new OwnedFd(sys, sys.open(PRIVCMD, O.RDWR | O.CLOEXEC), `opening ${PRIVCMD}`);
  // Memory that never faults while Xen reads it: the kernel's device for it.
  const buffers = new OwnedFd(sys, sys.open(HYPERCALL_BUFFERS, O.RDWR | O.CLOEXEC), `opening ${HYPERCALL_BUFFERS}`);
  const page = new Scratch(OwnedMapping.file(sys, buffers.fd, PAGE_SIZE, 'hypercall arguments'));
  const request = scratch(sys);
  const { privcmd_hypercall: CALL } = XEN_STRUCT;
  return {
    grantTableOp: (op, argument) => {
      page.bytes.set(argument);
      putU64(request.view, CALL.op, C.__HYPERVISOR_grant_table_op);
      putU64(request.view, CALL.arg, op);
      putU64(request.view, CALL.arg + 8, page.at(0));
      putU64(request.view, CALL.arg + 16, 1);
      const result = sys.ioctl(fd.fd, X.IOCTL_PRIVCMD_HYPERCALL, request.at(0));
      argument.set(page.bytes.subarray(0, argument.length));
      return result;
    },
    closeHypercalls: () => {
      page.mapping.close();
      request.mapping.close();
      buffers.close();
      fd.close();
    },
  };
}

const XENVER_VERSION = 0;

/** Version of the running hypervisor as `4.17`, or minus the errno. */
export function xenVersion(sys: Syscalls): string | number {
  const fd = sys.open(PRIVCMD, O.RDWR | O.CLOEXEC);
  if (fd < 0) return fd;
  const { privcmd_hypercall: CALL } = XEN_STRUCT;
  const view = new DataView(new ArrayBuffer(CALL.size));
  putU64(view, CALL.op, C.__HYPERVISOR_xen_version);
  putU64(view, CALL.arg, XENVER_VERSION);
  const result = sys.ioctlBuffer(fd, X.IOCTL_PRIVCMD_HYPERCALL, new Uint8Array(view.buffer));
  sys.close(fd);
  // Major in the high 16 bits, minor in the low ones.
  return result < 0 ? result : `${result >>> 16}.${result & 0xffff}`;
}
