/* Interrupts for the guest. */
#include "standin.h"
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define MSI_WINDOW 0xfee00000UL
#define MSI_WINDOW_MASK 0xfff00000UL
#define GSI_COUNT 24

/** The hypervisor takes nothing but addresses of the local APICs. */
long interrupt_msi(struct vm *vm, const struct acrn_msi_entry *msi) {
  if ((msi->msi_addr & ~0UL << 32) != 0 || (msi->msi_addr & MSI_WINDOW_MASK) != MSI_WINDOW) return HV_REFUSED;
  struct kvm_msi entry = {.address_lo = (uint32_t)msi->msi_addr, .data = (uint32_t)msi->msi_data};
  // 0: no APIC takes it, as with real hardware; not an error.
  return ioctl(vm->kvm_fd, KVM_SIGNAL_MSI, &entry) < 0 ? HV_REFUSED : 0;
}

static int set_line(struct vm *vm, uint32_t gsi, bool high) {
  struct kvm_irq_level level = {.irq = gsi, .level = high};
  return ioctl(vm->kvm_fd, KVM_IRQ_LINE, &level);
}

long interrupt_line(struct vm *vm, uint32_t gsi, uint32_t operation) {
  if (gsi >= GSI_COUNT || operation > GSI_FALLING_PULSE) return HV_REFUSED;
  bool first = operation == GSI_SET_HIGH || operation == GSI_RAISING_PULSE;
  if (set_line(vm, gsi, first) < 0) return HV_REFUSED;
  if (operation >= GSI_RAISING_PULSE && set_line(vm, gsi, !first) < 0) return HV_REFUSED;
  return 0;
}

/** No device is passed through, so the page's answer is an empty list. */
long interrupt_monitor(struct vm *vm, pid_t tid, uint64_t va) {
  uint8_t *page;
  if (share(tid, va & ~(PAGE - 1), PAGE, &page) < 0) return -EFAULT;
  struct intr_monitor *monitor = (struct intr_monitor *)page;
  if (monitor->cmd == INTR_GET_DATA) monitor->count = 0;
  if (vm->monitor != NULL) munmap(vm->monitor, PAGE);
  vm->monitor = page;
  return 0;
}
