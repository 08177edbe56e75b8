/* The ioctls of /dev/acrn_hsm, as the mainline kernel's module answers them. */
#include "standin.h"
#include <errno.h>

static long create_vm(struct vm *vm, const struct call *call) {
  struct acrn_vm_creation creation;
  if (copy_in(call, &creation, sizeof creation) < 0) return -EFAULT;
  if (creation.reserved0 != 0 || creation.reserved1 != 0) return -EINVAL;
  // The module would overwrite its only record of the first VM, and never destroy a second one.
  if (vm->vmid != INVALID_VMID || vm->destroyed) {
    fprintf(stderr, "standin: a second VM on one descriptor: the real module loses the first\n");
    return -EINVAL;
  }
  if (vm_create(vm, creation.uuid.b, creation.cpu_affinity, &creation.vmid, &creation.vcpu_num) < 0) return -EINVAL;
  if (ioreq_set_page(vm, call->tid, creation.ioreq_buf) < 0) {
    vm_destroy(vm);
    // The module undoes it and the descriptor can be used again.
    vm->destroyed = false;
    return -EINVAL;
  }
  if (copy_out(call, &creation, sizeof creation) == 0) return 0;
  vm_destroy(vm);
  return -EFAULT;
}

static long set_vcpu_regs(struct vm *vm, const struct call *call) {
  struct acrn_vcpu_regs regs;
  if (copy_in(call, &regs, sizeof regs) < 0) return -EFAULT;
  const struct acrn_regs *given = &regs.vcpu_regs;
  uint64_t reserved = 0;
  for (int i = 0; i < 3; i++) reserved |= (uint64_t)regs.reserved[i] | given->reserved_32[i] | given->gdt.reserved[i] | given->idt.reserved[i];
  for (int i = 0; i < 4; i++) reserved |= given->reserved_64[i];
  return reserved != 0 ? -EINVAL : vcpu_set_regs(vm, &regs);
}

static long vm_intr_monitor(struct vm *vm, const struct call *call) { return interrupt_monitor(vm, call->tid, call->arg); }

static long notify_request_finish(struct vm *vm, const struct call *call) {
  struct acrn_ioreq_notify notify;
  if (copy_in(call, &notify, sizeof notify) < 0) return -EFAULT;
  if (notify.reserved != 0) return -EINVAL;
  // The module keeps 16 bits of it.
  return vm->client == 0 ? 0 : ioreq_complete(vm, (uint16_t)notify.vcpu);
}

static long create_ioreq_client(struct vm *vm, const struct call *) {
  long id = ioreq_create_client(vm);
  return id < 0 ? id : 0;
}

static long attach_ioreq_client(struct vm *vm, const struct call *call) { return vm->client == 0 ? -ENODEV : ioreq_attach(vm, call); }

static long destroy_ioreq_client(struct vm *vm, const struct call *) {
  pthread_mutex_lock(&vm->lock);
  ioreq_destroy_client(vm);
  pthread_mutex_unlock(&vm->lock);
  return 0;
}

static long set_memseg(struct vm *vm, const struct call *call) {
  struct acrn_vm_memmap map;
  if (copy_in(call, &map, sizeof map) < 0) return -EFAULT;
  switch (map.type) {
    case ACRN_MEMMAP_RAM:
      return memory_add_ram(vm, call->tid, map.user_vm_pa, map.vma_base, map.len, map.attr);
    case ACRN_MEMMAP_MMIO:
      return memory_add_frames(vm, call->tid, map.user_vm_pa, map.service_vm_pa, map.len, map.attr);
    default:
      return -EINVAL;
  }
}

static long unset_memseg(struct vm *vm, const struct call *call) {
  struct acrn_vm_memmap map;
  if (copy_in(call, &map, sizeof map) < 0) return -EFAULT;
  return map.type == ACRN_MEMMAP_MMIO ? memory_remove(vm, map.user_vm_pa, map.len) : -EINVAL;
}

/** There is no device to pass through, and no table of power states. */
static long no_device(struct vm *, const struct call *) {
  return -ENODEV;
}

static long no_power_states(struct vm *, const struct call *) {
  return HV_REFUSED;
}

static const struct ioctl_entry ioctls[] = {
    {ACRN_IOCTL_CREATE_VM, "create_vm", create_vm, .without_vm = true},
    {ACRN_IOCTL_DESTROY_VM, "destroy_vm", call_destroy_vm, false},
    {ACRN_IOCTL_START_VM, "start_vm", call_start_vm, false},
    {ACRN_IOCTL_PAUSE_VM, "pause_vm", call_pause_vm, false},
    {ACRN_IOCTL_RESET_VM, "reset_vm", call_reset_vm, false},
    {ACRN_IOCTL_SET_VCPU_REGS, "set_vcpu_regs", set_vcpu_regs, false},
    {ACRN_IOCTL_INJECT_MSI, "inject_msi", call_inject_msi, false},
    {ACRN_IOCTL_VM_INTR_MONITOR, "vm_intr_monitor", vm_intr_monitor, false},
    {ACRN_IOCTL_SET_IRQLINE, "set_irqline", call_set_irqline, false},
    {ACRN_IOCTL_NOTIFY_REQUEST_FINISH, "notify_request_finish", notify_request_finish, false},
    {ACRN_IOCTL_CREATE_IOREQ_CLIENT, "create_ioreq_client", create_ioreq_client, false},
    {ACRN_IOCTL_ATTACH_IOREQ_CLIENT, "attach_ioreq_client", attach_ioreq_client, false},
    {ACRN_IOCTL_DESTROY_IOREQ_CLIENT, "destroy_ioreq_client", destroy_ioreq_client, false},
    {ACRN_IOCTL_CLEAR_VM_IOREQ, "clear_vm_ioreq", call_clear_vm_ioreq, false},
    {ACRN_IOCTL_SET_MEMSEG, "set_memseg", set_memseg, false},
    {ACRN_IOCTL_UNSET_MEMSEG, "unset_memseg", unset_memseg, false},
    {ACRN_IOCTL_SET_PTDEV_INTR, "set_ptdev_intr", no_device, false},
    {ACRN_IOCTL_RESET_PTDEV_INTR, "reset_ptdev_intr", no_device, false},
    {ACRN_IOCTL_ASSIGN_PCIDEV, "assign_pcidev", no_device, false},
    {ACRN_IOCTL_DEASSIGN_PCIDEV, "deassign_pcidev", no_device, false},
    {ACRN_IOCTL_ASSIGN_MMIODEV, "assign_mmiodev", no_device, false},
    {ACRN_IOCTL_DEASSIGN_MMIODEV, "deassign_mmiodev", no_device, false},
    {ACRN_IOCTL_CREATE_VDEV, "create_vdev", no_device, false},
    {ACRN_IOCTL_DESTROY_VDEV, "destroy_vdev", no_device, false},
    {ACRN_IOCTL_PM_GET_CPU_STATE, "pm_get_cpu_state", no_power_states, false},
    {ACRN_IOCTL_IOEVENTFD, "ioeventfd", eventfd_io, false},
    {ACRN_IOCTL_IRQFD, "irqfd", eventfd_irq, false},
    {0},
};

const struct abi hsm_abi = {
    .name = "hsm",
    .path = "/dev/acrn_hsm",
    .no_vm = -EINVAL,
    .unknown = -ENOTTY,
    .attach_ended = -ENODEV,
    // It lists the pages in one piece of kernel memory: 24 bytes and 32 a page, of 4 MiB.
    .ram_pages = ((4 << 20) - 24) / 32,
    .ioctls = ioctls,
};
