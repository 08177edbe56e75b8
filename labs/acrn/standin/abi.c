/*
 * The ABI that is compiled in against golden values. Sources: for the HSM <linux/acrn.h> of Linux 6.1 (values computed there);
 * for the VHM the ACRN 1.x and 2.x kernels' vhm_ioctl_defs.h and acrn_common.h. The numbers are the same as in src/backends/acrn/abi.ts,
 * which was written apart from this file.
 */
#include "abi.h"
#include <stddef.h>

#define IS(what, value) _Static_assert((what) == (value), #what " is not " #value)
#define AT(type, member, offset) IS(offsetof(type, member), offset)

IS(ACRN_IOCTL_CREATE_VM, 0xC030A210);
IS(ACRN_IOCTL_DESTROY_VM, 0xA211);
IS(ACRN_IOCTL_START_VM, 0xA212);
IS(ACRN_IOCTL_PAUSE_VM, 0xA213);
IS(ACRN_IOCTL_RESET_VM, 0xA215);
IS(ACRN_IOCTL_SET_VCPU_REGS, 0x4128A216);
IS(ACRN_IOCTL_INJECT_MSI, 0x4010A223);
IS(ACRN_IOCTL_VM_INTR_MONITOR, 0x4008A224);
IS(ACRN_IOCTL_SET_IRQLINE, 0x4008A225);
IS(ACRN_IOCTL_NOTIFY_REQUEST_FINISH, 0x4008A231);
IS(ACRN_IOCTL_CREATE_IOREQ_CLIENT, 0xA232);
IS(ACRN_IOCTL_ATTACH_IOREQ_CLIENT, 0xA233);
IS(ACRN_IOCTL_DESTROY_IOREQ_CLIENT, 0xA234);
IS(ACRN_IOCTL_CLEAR_VM_IOREQ, 0xA235);
IS(ACRN_IOCTL_SET_MEMSEG, 0x4020A241);
IS(ACRN_IOCTL_UNSET_MEMSEG, 0x4020A242);
IS(ACRN_IOCTL_PM_GET_CPU_STATE, 0xC008A260);
IS(ACRN_IOCTL_IOEVENTFD, 0x4020A270);
IS(ACRN_IOCTL_IRQFD, 0x4018A271);

IS(sizeof(struct acrn_io_request), SLOT_SIZE);
AT(struct acrn_io_request, completion_polling, 4);
AT(struct acrn_io_request, reqs, 64);
AT(struct acrn_io_request, kernel_handled, 132);
AT(struct acrn_io_request, processed, 136);
AT(struct acrn_mmio_request, address, 8);
AT(struct acrn_mmio_request, size, 16);
AT(struct acrn_mmio_request, value, 24);
AT(struct acrn_pio_request, value, 24);
AT(struct acrn_pci_request, size, 16);
AT(struct acrn_pci_request, value, 24);
AT(struct acrn_pci_request, bus, 28);
AT(struct acrn_pci_request, reg, 40);
IS(sizeof(struct acrn_vm_creation), 48);
AT(struct acrn_vm_creation, vcpu_num, 4);
AT(struct acrn_vm_creation, ioreq_buf, 32);
AT(struct acrn_vm_creation, cpu_affinity, 40);
IS(sizeof(struct acrn_vm_memmap), 32);
AT(struct acrn_vm_memmap, user_vm_pa, 8);
AT(struct acrn_vm_memmap, vma_base, 16);
AT(struct acrn_vm_memmap, len, 24);
IS(sizeof(struct acrn_vcpu_regs), 296);
AT(struct acrn_vcpu_regs, vcpu_regs, 8);
AT(struct acrn_regs, gdt, 128);
AT(struct acrn_regs, idt, 144);
AT(struct acrn_regs, rip, 160);
AT(struct acrn_regs, cs_ar, 248);
AT(struct acrn_regs, cs_sel, 268);
IS(sizeof(struct acrn_ioreq_notify), 8);
AT(struct acrn_ioreq_notify, vcpu, 4);
IS(sizeof(struct acrn_msi_entry), 16);
IS(sizeof(struct acrn_ioeventfd), 32);
IS(sizeof(struct acrn_irqfd), 24);

IS(IC_GET_API_VERSION, 0x43000000);
IS(IC_CREATE_VM, 0x43000010);
IS(IC_SET_VCPU_REGS, 0x43000016);
IS(IC_INJECT_MSI, 0x43000023);
IS(IC_SET_IRQLINE, 0x43000025);
IS(IC_SET_IOREQ_BUFFER, 0x43000030);
IS(IC_CLEAR_VM_IOREQ, 0x43000035);
IS(IC_SET_MEMSEG, 0x43000041);
IS(IC_EVENT_IRQFD, 0x43000071);
IS(sizeof(struct vhm_create_vm), 48);
AT(struct vhm_create_vm, uuid, 8);
AT(struct vhm_create_vm, vm_flag, 24);
AT(struct vhm_create_vm, req_buf, 32);
AT(struct vhm_create_vm, cpu_affinity, 40);
IS(sizeof(struct vhm_memmap), 40);
AT(struct vhm_memmap, hpa_or_vma, 16);
AT(struct vhm_memmap, prot, 32);
IS(sizeof(struct vhm_notify), 8);
IS(sizeof(struct vhm_create_vcpu), 8);
IS(sizeof(struct vhm_irqline), 24);

/* A translation unit without a symbol is not ISO C. */
const unsigned abi_checked = 1;
