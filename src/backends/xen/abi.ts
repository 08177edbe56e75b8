/**
 * The part of Xen's ABI that we use, as data: structure sizes and offsets, numbers of operations, constants. Sources: Xen's
 * public headers (xen/domctl.h, xen/grant_table.h, xen/memory.h, xen/hvm/{dm_op,ioreq,save}.h) and Linux's
 * (xen/privcmd.h, xen/evtchn.h). test/xen/abi.test.ts compiles a C program against the headers and compares every number.
 *
 * Most of it is stable. `XENCTRL` is not: libxenctrl's structures change with the hypervisor, so they are kept by version.
 */

/** Structures of libxenctrl, by the version in its soname. */
export const XENCTRL = {
  '4.17': {
    xen_domctl_createdomain: {
      size: 64,
      handle: 4,
      flags: 20,
      max_vcpus: 28,
      max_evtchn_port: 32,
      max_grant_frames: 36,
      max_maptrack_frames: 40,
      grant_opts: 44,
      'arch.emulation_flags': 56,
    },
    xc_domaininfo_t: { size: 112, domain: 0, flags: 4, tot_pages: 8, cpu_time: 56, max_vcpu_id: 68, handle: 76 },
    xc_physinfo_t: { size: 112, free_pages: 48, scrub_pages: 56 },
  },
} as const;
export type XenctrlVersion = keyof typeof XENCTRL;
export type XenctrlLayout = (typeof XENCTRL)[XenctrlVersion];

export const XEN_STRUCT = {
  // hvm/ioreq.h. Byte 30 holds state (bits 0-3), data_is_ptr (4), dir (5), df (6).
  ioreq: { size: 32, addr: 0, data: 8, count: 16, size_: 20, vp_eport: 24, flags: 30, type: 31 },
  buffered_iopage: { size: 4096, read_pointer: 0, write_pointer: 4, buf_ioreq: 8 },
  buf_ioreq: { size: 8, data: 4 },
  // hvm/dm_op.h
  xen_dm_op: { size: 32, op: 0, u: 8 },
  xen_dm_op_create_ioreq_server: { size: 6, handle_bufioreq: 0, id: 4 },
  xen_dm_op_get_ioreq_server_info: { size: 24, id: 0, flags: 2, bufioreq_port: 4 },
  xen_dm_op_ioreq_server_range: { size: 24, id: 0, type: 4, start: 8, end: 16 },
  xen_dm_op_set_ioreq_server_state: { size: 4, id: 0, enabled: 2 },
  xen_dm_op_destroy_ioreq_server: { size: 4, id: 0 },
  xen_dm_op_track_dirty_vram: { size: 16, nr: 0, first_pfn: 8 },
  xen_dm_op_set_mem_type: { size: 16, nr: 0, mem_type: 4, first_pfn: 8 },
  xen_dm_op_inject_msi: { size: 16, data: 0, addr: 8 },
  xen_dm_op_map_mem_type_to_ioreq_server: { size: 16, id: 0, type: 2, flags: 4 },
  // hvm/save.h, arch-x86/hvm/save.h
  hvm_save_descriptor: { size: 8, typecode: 0, instance: 2, length: 4 },
  hvm_hw_cpu: {
    size: 1032,
    rax: 512,
    rip: 640,
    rflags: 648,
    cr0: 656,
    dr6: 720,
    dr7: 728,
    cs_sel: 736,
    cs_limit: 768,
    cs_base: 808,
    cs_arbytes: 888,
    idtr_limit: 800,
    gdtr_limit: 804,
    flags: 1024,
  },
  // grant_table.h
  grant_entry_v1: { size: 8, flags: 0, domid: 2, frame: 4 },
  gnttab_map_grant_ref: { size: 32, host_addr: 0, flags: 8, ref: 12, dom: 16, status: 18, handle: 20, dev_bus_addr: 24 },
  gnttab_unmap_grant_ref: { size: 24, host_addr: 0, dev_bus_addr: 8, handle: 16, status: 20 },
  gnttab_query_size: { size: 16, dom: 0, nr_frames: 4, max_nr_frames: 8, status: 12 },
  gnttab_get_version: { size: 8, dom: 0, version: 4 },
  // linux/xen/privcmd.h, linux/xen/evtchn.h
  privcmd_hypercall: { size: 48, op: 0, arg: 8 },
  privcmd_mmapbatch_v2: { size: 32, num: 0, dom: 4, addr: 8, arr: 16, err: 24 },
  privcmd_dm_op: { size: 16, dom: 0, num: 2, ubufs: 8 },
  privcmd_dm_op_buf: { size: 16, uptr: 0, size_: 8 },
  privcmd_mmap_resource: { size: 32, dom: 0, type: 4, id: 8, idx: 12, num: 16, addr: 24 },
} as const;

/** Segments of `hvm_hw_cpu`, in the order of its arrays of selectors, limits, bases and access rights. */
export const CPU_SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldtr'] as const;

export const XEN_IOCTL = {
  IOCTL_PRIVCMD_HYPERCALL: 0x30_5000,
  IOCTL_PRIVCMD_MMAPBATCH_V2: 0x20_5004,
  IOCTL_PRIVCMD_DM_OP: 0x10_5005,
  IOCTL_PRIVCMD_MMAP_RESOURCE: 0x20_5007,
  IOCTL_EVTCHN_BIND_INTERDOMAIN: 0x8_4501,
  IOCTL_EVTCHN_UNBIND: 0x4_4503,
  IOCTL_EVTCHN_NOTIFY: 0x4_4504,
} as const;

export const XEN_CONST = {
  __HYPERVISOR_xen_version: 17,
  __HYPERVISOR_grant_table_op: 20,
  XEN_DMOP_create_ioreq_server: 1,
  XEN_DMOP_get_ioreq_server_info: 2,
  XEN_DMOP_map_io_range_to_ioreq_server: 3,
  XEN_DMOP_unmap_io_range_from_ioreq_server: 4,
  XEN_DMOP_set_ioreq_server_state: 5,
  XEN_DMOP_destroy_ioreq_server: 6,
  XEN_DMOP_track_dirty_vram: 7,
  XEN_DMOP_set_mem_type: 12,
  XEN_DMOP_inject_msi: 14,
  XEN_DMOP_map_mem_type_to_ioreq_server: 15,
  XEN_DMOP_no_gfns: 1,
  XEN_DMOP_IO_RANGE_PORT: 0,
  XEN_DMOP_IO_RANGE_MEMORY: 1,
  XEN_DMOP_IO_RANGE_PCI: 2,
  XEN_DMOP_IOREQ_MEM_ACCESS_WRITE: 2,
  HVM_IOREQSRV_BUFIOREQ_ATOMIC: 2,
  HVMMEM_ram_rw: 0,
  HVMMEM_ioreq_server: 4,
  STATE_IOREQ_NONE: 0,
  STATE_IOREQ_READY: 1,
  STATE_IOREQ_INPROCESS: 2,
  STATE_IORESP_READY: 3,
  IOREQ_TYPE_PIO: 0,
  IOREQ_TYPE_COPY: 1,
  IOREQ_TYPE_PCI_CONFIG: 2,
  IOREQ_TYPE_TIMEOFFSET: 7,
  IOREQ_TYPE_INVALIDATE: 8,
  IOREQ_BUFFER_SLOT_NUM: 511,
  XENMEM_resource_ioreq_server: 0,
  XENMEM_resource_grant_table: 1,
  GNTTABOP_map_grant_ref: 0,
  GNTTABOP_unmap_grant_ref: 1,
  GNTTABOP_query_size: 6,
  GNTTABOP_get_version: 10,
  GNTMAP_device_map: 1,
  GTF_permit_access: 1,
  GTF_reading: 8,
  GTF_writing: 16,
  XEN_DOMCTL_CDF_hvm: 1,
  XEN_DOMCTL_CDF_hap: 2,
  XEN_DOMINF_dying: 1,
  XEN_DOMINF_hvm_guest: 2,
  XEN_DOMINF_shutdown: 4,
  XEN_DOMINF_paused: 8,
  XEN_DOMINF_hap: 0x100,
  XEN_DOMINF_shutdownmask: 255,
  XEN_DOMINF_shutdownshift: 16,
  XEN_DOMCTL_SHADOW_OP_OFF: 0,
  XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY: 2,
  XEN_DOMCTL_SHADOW_OP_CLEAN: 11,
  XEN_DOMCTL_PFINFO_XTAB: 0xf000_0000,
  XEN_DOMCTL_SENDTRIGGER_NMI: 0,
  XEN_X86_EMU_LAPIC: 1,
  XEN_X86_EMU_ALL: 0x7ff,
  XEN_X86_EMU_VPCI: 0x400,
  HVM_SAVE_CODE_END: 0,
  HVM_SAVE_CODE_HEADER: 1,
  HVM_SAVE_CODE_CPU: 2,
  XEN_X86_FPU_INITIALISED: 1,
} as const;

/** Reasons in the shutdown code of a domain (xen/sched.h, SHUTDOWN_*). */
export const SHUTDOWN_REASONS = ['poweroff', 'reboot or triple fault', 'suspend', 'crash', 'watchdog', 'soft reset'] as const;

/** The control domain: the one we run in. */
export const DOM0 = 0;
/** Domain ids of real domains are below this (xen/xen.h, DOMID_FIRST_RESERVED). */
export const DOMID_LIMIT = 0x7ff0;
