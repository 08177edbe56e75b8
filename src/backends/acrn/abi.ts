/**
 * The part of ACRN's ABI that we use, as data. Two char devices speak it: `/dev/acrn_hsm` of mainline Linux and the older
 * `/dev/acrn_vhm`. Structures are the same unless `ACRN_STRUCT` names them for the older one (`vhm_...`).
 *
 * Sources: include/uapi/linux/acrn.h for HSM, against which test/acrn/abi.test.ts compiles a C program; for VHM
 * include/linux/vhm/vhm_ioctl_defs.h and include/linux/vhm/acrn_common.h of projectacrn/acrn-kernel (4.19), which no
 * distribution installs: their numbers are golden values.
 */

/** Request numbers of HSM as `_IO*` yields them on x86-64. */
export const HSM_IOCTL = {
  CREATE_VM: 0xc030_a210,
  DESTROY_VM: 0xa211,
  START_VM: 0xa212,
  PAUSE_VM: 0xa213,
  RESET_VM: 0xa215,
  SET_VCPU_REGS: 0x4128_a216,
  INJECT_MSI: 0x4010_a223,
  VM_INTR_MONITOR: 0x4008_a224,
  SET_IRQLINE: 0x4008_a225,
  NOTIFY_REQUEST_FINISH: 0x4008_a231,
  CREATE_IOREQ_CLIENT: 0xa232,
  ATTACH_IOREQ_CLIENT: 0xa233,
  DESTROY_IOREQ_CLIENT: 0xa234,
  CLEAR_VM_IOREQ: 0xa235,
  SET_MEMSEG: 0x4020_a241,
  UNSET_MEMSEG: 0x4020_a242,
  IOEVENTFD: 0x4020_a270,
  IRQFD: 0x4018_a271,
} as const;

/** What both devices answer. */
export type AcrnRequest = keyof typeof HSM_IOCTL;

/** Request numbers of VHM: `IC_ID << 24 | nr`, without direction and size. */
export const VHM_IOCTL = {
  GET_API_VERSION: 0x4300_0000,
  CREATE_VM: 0x4300_0010,
  DESTROY_VM: 0x4300_0011,
  START_VM: 0x4300_0012,
  PAUSE_VM: 0x4300_0013,
  CREATE_VCPU: 0x4300_0014,
  RESET_VM: 0x4300_0015,
  SET_VCPU_REGS: 0x4300_0016,
  INJECT_MSI: 0x4300_0023,
  VM_INTR_MONITOR: 0x4300_0024,
  SET_IRQLINE: 0x4300_0025,
  SET_IOREQ_BUFFER: 0x4300_0030,
  NOTIFY_REQUEST_FINISH: 0x4300_0031,
  CREATE_IOREQ_CLIENT: 0x4300_0032,
  ATTACH_IOREQ_CLIENT: 0x4300_0033,
  DESTROY_IOREQ_CLIENT: 0x4300_0034,
  CLEAR_VM_IOREQ: 0x4300_0035,
  SET_MEMSEG: 0x4300_0041,
  UNSET_MEMSEG: 0x4300_0042,
  IOEVENTFD: 0x4300_0070,
  IRQFD: 0x4300_0071,
} as const satisfies Readonly<Record<AcrnRequest, number>> & Readonly<Record<string, number>>;

export const ACRN_CONST = {
  ACRN_IO_REQUEST_MAX: 16,
  ACRN_IOREQ_STATE_PENDING: 0,
  ACRN_IOREQ_STATE_COMPLETE: 1,
  ACRN_IOREQ_STATE_PROCESSING: 2,
  ACRN_IOREQ_STATE_FREE: 3,
  ACRN_IOREQ_TYPE_PORTIO: 0,
  ACRN_IOREQ_TYPE_MMIO: 1,
  ACRN_IOREQ_TYPE_PCICFG: 2,
  ACRN_IOREQ_DIR_READ: 0,
  ACRN_IOREQ_DIR_WRITE: 1,
  ACRN_MEM_ACCESS_READ: 1,
  ACRN_MEM_ACCESS_WRITE: 2,
  ACRN_MEM_ACCESS_EXEC: 4,
  ACRN_MEM_ACCESS_RWX: 7,
  ACRN_MEM_TYPE_WB: 0x40,
  ACRN_MEM_TYPE_UC: 0x100,
  ACRN_MEMMAP_RAM: 0,
  ACRN_MEMMAP_MMIO: 1,
  ACRN_IOEVENTFD_FLAG_PIO: 1,
  ACRN_IOEVENTFD_FLAG_DATAMATCH: 2,
  ACRN_IOEVENTFD_FLAG_DEASSIGN: 4,
  ACRN_IRQFD_FLAG_DEASSIGN: 1,
} as const;

/** What the uapi header does not have (acrn-hypervisor, hypervisor/include/public/acrn_common.h and its device model). */
export const ACRN_HYPERVISOR = {
  /** A write to a page without the right to write: REQ_WP. The store has not been made. */
  IOREQ_TYPE_WP: 3,
  /** `struct acrn_intr_monitor`: u32 cmd, u32 buf_cnt, u64 buffer[48]: pairs of interrupt number and count. */
  INTR_MONITOR: { size: 392, cmd: 0, buf_cnt: 4, buffer: 8, entries: 48 },
  INTR_CMD_GET_DATA: 0,
  INTR_CMD_DELAY_INT: 1,
  /** Operations of SET_IRQLINE, in bits 63:32 of its argument. */
  GSI_SET_HIGH: 0,
  GSI_SET_LOW: 1,
  GSI_RAISING_PULSE: 2,
  GSI_FALLING_PULSE: 3,
  /**
   * A triple fault, and a power-off by the guest, arrive as this write to the ACPI PM1a control register: 2 bytes with the
   * sleep-enable bit and sleep type 5 (triple_fault_shutdown_vm).
   */
  PM1A_CNT_PORT: 0x404,
  PM1A_S5: 0x3400,
  /** Rows of the kernel's table of a VM's RAM mappings (drivers/virt/acrn/acrn_drv.h, ACRN_MEM_MAPPING_MAX). */
  MEM_MAPPING_MAX: 256,
} as const;

/** Structures: size and the offsets of the fields that we touch, in bytes. */
export const ACRN_STRUCT = {
  acrn_vm_creation: { size: 48, vmid: 0, vcpu_num: 4, uuid: 8, vm_flag: 24, ioreq_buf: 32, cpu_affinity: 40 },
  acrn_vcpu_regs: { size: 296, vcpu_id: 0, vcpu_regs: 8 },
  acrn_regs: {
    size: 288,
    'gdt.limit': 128,
    'gdt.base': 130,
    'idt.limit': 144,
    'idt.base': 146,
    rip: 160,
    cs_base: 168,
    cr0: 176,
    rflags: 208,
    cs_ar: 248,
    cs_limit: 252,
    cs_sel: 268,
  },
  acrn_vm_memmap: { size: 32, type: 0, attr: 4, user_vm_pa: 8, service_vm_pa: 16, vma_base: 16, len: 24 },
  acrn_msi_entry: { size: 16, msi_addr: 0, msi_data: 8 },
  acrn_ioreq_notify: { size: 8, vmid: 0, reserved: 2, vcpu: 4 },
  acrn_ioeventfd: { size: 32, fd: 0, flags: 4, addr: 8, len: 16, reserved: 20, data: 24 },
  acrn_irqfd: { size: 24, fd: 0, flags: 4, 'msi.msi_addr': 8, 'msi.msi_data': 16 },
  acrn_io_request_buffer: { size: 4096, req_slot: 0 },
  acrn_io_request: {
    size: 256,
    type: 0,
    completion_polling: 4,
    reqs: 64,
    'reqs.mmio_request.direction': 64,
    'reqs.mmio_request.address': 72,
    'reqs.mmio_request.size': 80,
    'reqs.mmio_request.value': 88,
    'reqs.pio_request.direction': 64,
    'reqs.pio_request.address': 72,
    'reqs.pio_request.size': 80,
    'reqs.pio_request.value': 88,
    'reqs.pci_request.direction': 64,
    'reqs.pci_request.size': 80,
    'reqs.pci_request.value': 88,
    'reqs.pci_request.bus': 92,
    'reqs.pci_request.dev': 96,
    'reqs.pci_request.func': 100,
    'reqs.pci_request.reg': 104,
    kernel_handled: 132,
    processed: 136,
  },
} as const;

/** Structures of VHM that differ. */
export const VHM_STRUCT = {
  /** `hpa` is the address in this process when `using_vma` is set. */
  vm_memmap: { size: 40, type: 0, using_vma: 4, gpa: 8, hpa: 16, len: 24, prot: 32 },
  ioreq_notify: { size: 8, client_id: 0, vcpu: 4 },
  acrn_create_vcpu: { size: 8, vcpu_id: 0, pcpu_id: 2 },
  api_version: { size: 8, major_version: 0, minor_version: 4 },
  /** In the request slot, where HSM has kernel_handled: the client that the request was given to. */
  vhm_request: { size: 256, client: 132, processed: 136 },
} as const;
