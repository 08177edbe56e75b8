/* The ioctls that both devices answer alike, up to how a refusal of the hypervisor reaches the caller. */
#include "standin.h"
#include <errno.h>

/** What the caller sees of a hypercall's result. */
long hypercall(const struct vm *vm, long result) { return result < 0 && vm->abi->refused != 0 ? vm->abi->refused : result; }

long call_destroy_vm(struct vm *vm, const struct call *) {
  vm_destroy(vm);
  return 0;
}

long call_start_vm(struct vm *vm, const struct call *) { return hypercall(vm, vm_start(vm)); }

long call_pause_vm(struct vm *vm, const struct call *) { return hypercall(vm, vm_pause(vm)); }

long call_reset_vm(struct vm *vm, const struct call *) { return hypercall(vm, vm_reset(vm)); }

long call_inject_msi(struct vm *vm, const struct call *call) {
  struct acrn_msi_entry msi;
  return hypercall(vm, copy_in(call, &msi, sizeof msi) < 0 ? -EFAULT : interrupt_msi(vm, &msi));
}

/** The argument is the value itself, although the HSM's number says pointer. */
long call_set_irqline(struct vm *vm, const struct call *call) {
  return hypercall(vm, interrupt_line(vm, (uint32_t)call->arg, (uint32_t)(call->arg >> 32)));
}

long call_clear_vm_ioreq(struct vm *vm, const struct call *) {
  ioreq_clear(vm);
  return 0;
}
