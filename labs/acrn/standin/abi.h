/*
 * The two char-device ABIs. The numbers and structures of /dev/acrn_hsm come from the kernel's <linux/acrn.h>; those of the older
 * /dev/acrn_vhm are written down here: no header of a distribution has them. abi.c checks both against golden values.
 */
#ifndef ABI_H
#define ABI_H
#include <stdint.h>
#include <sys/ioctl.h>
#include <linux/acrn.h>

#define REQUEST_SLOTS ACRN_IO_REQUEST_MAX
#define SLOT_SIZE 256
#define PAGE 4096UL
/** No VM: what the hypervisor gives for a VM that is not there. */
#define INVALID_VMID 0xffff

/**
 * A write to a page that may be read and executed but not written. The hypervisor's type; the HSM's header does not name it, and its
 * module hands it to its client as it is.
 */
#define REQ_WP 3

/* Request numbers of the VHM are plain: 0x43 << 24 | n. */
#define IC(n) (0x43000000u | (n))
enum vhm_ioctl {
  IC_GET_API_VERSION = IC(0x00),
  IC_CREATE_VM = IC(0x10),
  IC_DESTROY_VM = IC(0x11),
  IC_START_VM = IC(0x12),
  IC_PAUSE_VM = IC(0x13),
  IC_CREATE_VCPU = IC(0x14),
  IC_RESET_VM = IC(0x15),
  IC_SET_VCPU_REGS = IC(0x16),
  IC_ASSERT_IRQLINE = IC(0x20),
  IC_DEASSERT_IRQLINE = IC(0x21),
  IC_PULSE_IRQLINE = IC(0x22),
  IC_INJECT_MSI = IC(0x23),
  IC_VM_INTR_MONITOR = IC(0x24),
  IC_SET_IRQLINE = IC(0x25),
  IC_SET_IOREQ_BUFFER = IC(0x30),
  IC_NOTIFY_REQUEST_FINISH = IC(0x31),
  IC_CREATE_IOREQ_CLIENT = IC(0x32),
  IC_ATTACH_IOREQ_CLIENT = IC(0x33),
  IC_DESTROY_IOREQ_CLIENT = IC(0x34),
  IC_CLEAR_VM_IOREQ = IC(0x35),
  IC_SET_MEMSEG = IC(0x41),
  IC_UNSET_MEMSEG = IC(0x42),
  IC_ASSIGN_PTDEV = IC(0x50),
  IC_DEASSIGN_PTDEV = IC(0x51),
  IC_SET_PTDEV_INTR_INFO = IC(0x53),
  IC_RESET_PTDEV_INTR_INFO = IC(0x54),
  IC_PM_GET_CPU_STATE = IC(0x60),
  IC_EVENT_IOEVENTFD = IC(0x70),
  IC_EVENT_IRQFD = IC(0x71),
};

struct vhm_api_version {
  uint32_t major;
  uint32_t minor;
};

/** Ends where version 1.0 ends; newer ones append fields that are not read here. */
struct vhm_create_vm {
  uint16_t vmid;
  uint16_t reserved0;
  uint16_t vcpu_num;
  uint16_t reserved1;
  uint8_t uuid[16];
  uint64_t vm_flag;
  uint64_t req_buf;
  uint64_t cpu_affinity;
};

struct vhm_create_vcpu {
  uint16_t vcpu_id;
  uint16_t pcpu_id;
} __attribute__((aligned(8)));

struct vhm_memmap {
  uint32_t type;
  uint32_t using_vma;
  uint64_t gpa;
  uint64_t hpa_or_vma;
  uint64_t len;
  uint32_t prot;
};

struct vhm_notify {
  int32_t client;
  uint32_t vcpu;
};

struct vhm_irqline {
  uint32_t type;
  uint32_t reserved;
  uint32_t pic_irq;
  uint32_t reserved0;
  uint32_t ioapic_irq;
  uint32_t reserved1;
};

/* Operations of SET_IRQLINE, in the upper half of its argument; the GSI is in the lower. */
enum gsi_operation { GSI_SET_HIGH, GSI_SET_LOW, GSI_RAISING_PULSE, GSI_FALLING_PULSE };

/* VM_INTR_MONITOR's page. */
struct intr_monitor {
  uint32_t cmd;
  uint32_t count;
  uint64_t buffer[];
};
enum intr_monitor_cmd { INTR_GET_DATA, INTR_DELAY };
#endif
