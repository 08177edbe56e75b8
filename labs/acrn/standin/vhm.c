/*
 * The ioctls of /dev/acrn_vhm, as the ACRN 1.x and 2.x service VM kernels' module answers them: nearly every failure is EFAULT, and a
 * request that it does not know is a success.
 */
#include "standin.h"
#include <errno.h>

#define API_MAJOR 1
#define API_MINOR 0

static long get_api_version(struct vm *, const struct call *call) {
  struct vhm_api_version version = {API_MAJOR, API_MINOR};
  return copy_out(call, &version, sizeof version);
}

static long create_vm(struct vm *vm, const struct call *call) {
  struct vhm_create_vm creation;
  if (copy_in(call, &creation, sizeof creation) < 0) return -EFAULT;
  if (vm->vmid != INVALID_VMID) {
    fprintf(stderr, "standin: a second VM on one descriptor: the real module loses the first\n");
    return -EFAULT;
  }
  if (vm_create(vm, creation.uuid, creation.cpu_affinity, &creation.vmid, &creation.vcpu_num) < 0) return -EFAULT;
  long result = copy_out(call, &creation, sizeof creation);
  if (result == 0 && creation.req_buf != 0) result = ioreq_set_page(vm, call->tid, creation.req_buf) < 0 ? -ENOMEM : 0;
  if (result < 0) {
    vm_destroy(vm);
    vm->destroyed = false;
  }
  return result;
}

/** CREATE_VM has made the VM's vCPUs; asking for one of them again is nothing new, the next number is one more. */
static long create_vcpu(struct vm *vm, const struct call *call) {
  struct vhm_create_vcpu vcpu;
  if (copy_in(call, &vcpu, sizeof vcpu) < 0) return -EFAULT;
  if (vcpu.vcpu_id < vm->vcpu_count) return 0;
  return vcpu.vcpu_id > vm->vcpu_count || vm->state != VM_CREATED ? -EFAULT : hypercall(vm, vcpu_add(vm));
}

static long set_vcpu_regs(struct vm *vm, const struct call *call) {
  struct acrn_vcpu_regs regs;
  return copy_in(call, &regs, sizeof regs) < 0 ? -EFAULT : hypercall(vm, vcpu_set_regs(vm, &regs));
}

static long line(struct vm *vm, const struct call *call, enum gsi_operation operation) {
  struct vhm_irqline irq;
  return copy_in(call, &irq, sizeof irq) < 0 ? -EFAULT : hypercall(vm, interrupt_line(vm, irq.ioapic_irq, operation));
}

static long assert_irqline(struct vm *vm, const struct call *call) { return line(vm, call, GSI_SET_HIGH); }

static long deassert_irqline(struct vm *vm, const struct call *call) { return line(vm, call, GSI_SET_LOW); }

static long pulse_irqline(struct vm *vm, const struct call *call) { return line(vm, call, GSI_RAISING_PULSE); }

static long vm_intr_monitor(struct vm *vm, const struct call *call) {
  return interrupt_monitor(vm, call->tid, call->arg) < 0 ? -ENOMEM : 0;
}

/** A second one is taken for the first. */
static long set_ioreq_buffer(struct vm *vm, const struct call *call) {
  long result = ioreq_set_page(vm, call->tid, call->arg);
  return result == -EEXIST ? 0 : result < 0 ? -ENOMEM : 0;
}

static long create_ioreq_client(struct vm *vm, const struct call *) {
  return hypercall(vm, ioreq_create_client(vm));
}

/** Ids of clients are the machine's, not the VM's: any descriptor may name any. */
static struct vm *owner_of(int64_t client) {
  for (struct vm *vm = files; vm != NULL; vm = vm->next)
    if (client > 0 && vm->client == client) return vm;
  return NULL;
}

static long attach_ioreq_client(struct vm *, const struct call *call) {
  struct vm *owner = owner_of((int32_t)call->arg);
  return owner == NULL ? -EFAULT : ioreq_attach(owner, call);
}

static long destroy_ioreq_client(struct vm *, const struct call *call) {
  struct vm *owner = owner_of((int32_t)call->arg);
  if (owner == NULL) return 0;
  pthread_mutex_lock(&owner->lock);
  ioreq_destroy_client(owner);
  pthread_mutex_unlock(&owner->lock);
  return 0;
}

static long notify_request_finish(struct vm *, const struct call *call) {
  struct vhm_notify notify;
  if (copy_in(call, &notify, sizeof notify) < 0) return -EFAULT;
  struct vm *owner = owner_of(notify.client);
  return owner == NULL ? -EFAULT : hypercall(owner, ioreq_complete(owner, notify.vcpu));
}

static long set_memseg(struct vm *vm, const struct call *call) {
  struct vhm_memmap map;
  if (copy_in(call, &map, sizeof map) < 0) return -EFAULT;
  if (map.type == ACRN_MEMMAP_RAM && map.using_vma != 0)
    return memory_add_ram(vm, call->tid, map.gpa, map.hpa_or_vma, map.len, map.prot);
  if (map.type != ACRN_MEMMAP_MMIO) return -EINVAL;
  return hypercall(vm, memory_add_frames(vm, call->tid, map.gpa, map.hpa_or_vma, map.len, map.prot));
}

static long unset_memseg(struct vm *vm, const struct call *call) {
  struct vhm_memmap map;
  if (copy_in(call, &map, sizeof map) < 0) return -EFAULT;
  return map.type == ACRN_MEMMAP_MMIO ? hypercall(vm, memory_remove(vm, map.gpa, map.len)) : -EINVAL;
}

/** There is no device to pass through, and no table of power states. */
static long no_device(struct vm *, const struct call *) {
  return -EFAULT;
}

static const struct ioctl_entry ioctls[] = {
    {IC_GET_API_VERSION, "get_api_version", get_api_version, .without_vm = true},
    {IC_CREATE_VM, "create_vm", create_vm, .without_vm = true},
    {IC_DESTROY_VM, "destroy_vm", call_destroy_vm, false},
    {IC_START_VM, "start_vm", call_start_vm, false},
    {IC_PAUSE_VM, "pause_vm", call_pause_vm, false},
    {IC_CREATE_VCPU, "create_vcpu", create_vcpu, false},
    {IC_RESET_VM, "reset_vm", call_reset_vm, false},
    {IC_SET_VCPU_REGS, "set_vcpu_regs", set_vcpu_regs, false},
    {IC_ASSERT_IRQLINE, "assert_irqline", assert_irqline, false},
    {IC_DEASSERT_IRQLINE, "deassert_irqline", deassert_irqline, false},
    {IC_PULSE_IRQLINE, "pulse_irqline", pulse_irqline, false},
    {IC_INJECT_MSI, "inject_msi", call_inject_msi, false},
    {IC_VM_INTR_MONITOR, "vm_intr_monitor", vm_intr_monitor, false},
    {IC_SET_IRQLINE, "set_irqline", call_set_irqline, false},
    {IC_SET_IOREQ_BUFFER, "set_ioreq_buffer", set_ioreq_buffer, false},
    {IC_NOTIFY_REQUEST_FINISH, "notify_request_finish", notify_request_finish, false},
    {IC_CREATE_IOREQ_CLIENT, "create_ioreq_client", create_ioreq_client, false},
    {IC_ATTACH_IOREQ_CLIENT, "attach_ioreq_client", attach_ioreq_client, false},
    {IC_DESTROY_IOREQ_CLIENT, "destroy_ioreq_client", destroy_ioreq_client, false},
    {IC_CLEAR_VM_IOREQ, "clear_vm_ioreq", call_clear_vm_ioreq, false},
    {IC_SET_MEMSEG, "set_memseg", set_memseg, false},
    {IC_UNSET_MEMSEG, "unset_memseg", unset_memseg, false},
    {IC_ASSIGN_PTDEV, "assign_ptdev", no_device, false},
    {IC_DEASSIGN_PTDEV, "deassign_ptdev", no_device, false},
    {IC_SET_PTDEV_INTR_INFO, "set_ptdev_intr_info", no_device, false},
    {IC_RESET_PTDEV_INTR_INFO, "reset_ptdev_intr_info", no_device, false},
    {IC_PM_GET_CPU_STATE, "pm_get_cpu_state", no_device, false},
    {IC_EVENT_IOEVENTFD, "ioeventfd", eventfd_io, false},
    {IC_EVENT_IRQFD, "irqfd", eventfd_irq, false},
    {0},
};

const struct abi vhm_abi = {
    .name = "vhm",
    .path = "/dev/acrn_vhm",
    .no_vm = -EFAULT,
    .unknown = 0,
    .attach_ended = 1,
    .refused = -EFAULT,
    .ioctls = ioctls,
};
