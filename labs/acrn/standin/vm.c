/* The life of an opened file and of the VM on it. Callers hold files_lock. */
#include "standin.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Pages that Intel's VMX wants for real mode, below the BIOS. */
#define TSS_GPA 0xfffbd000UL
#define IDENTITY_MAP_GPA 0xfffbc000UL

pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;
struct vm *files;
unsigned long vms_created, vms_destroyed;
static unsigned next_vmid = 1;

struct vm *open_file(const struct abi *abi, int hangup_fd, ino_t inode) {
  struct vm *vm = calloc(1, sizeof *vm);
  if (vm == NULL) return NULL;
  *vm = (struct vm){.abi = abi, .hangup_fd = hangup_fd, .inode = inode, .vmid = INVALID_VMID, .kvm_fd = -1, .next = files};
  pthread_mutex_init(&vm->lock, NULL);
  pthread_cond_init(&vm->parked, NULL);
  files = vm;
  return vm;
}

struct vm *file_by_inode(ino_t inode) {
  for (struct vm *vm = files; vm != NULL; vm = vm->next)
    if (vm->inode == inode) return vm;
  return NULL;
}

/** The last descriptor is closed: what is left of the VM goes with it. */
void release_file(struct vm *vm) {
  vm_destroy(vm);
  for (struct vm **at = &files; *at != NULL; at = &(*at)->next)
    if (*at == vm) {
      *at = vm->next;
      break;
    }
  close(vm->hangup_fd);
  pthread_cond_destroy(&vm->parked);
  pthread_mutex_destroy(&vm->lock);
  free(vm);
}

static unsigned cpus_of(uint64_t affinity) {
  unsigned cpus = affinity == 0 ? options.vcpus : (unsigned)__builtin_popcountll(affinity);
  return cpus > REQUEST_SLOTS ? REQUEST_SLOTS : cpus;
}

/** The hypervisor has one VM of a UUID, and of a name. Which there may be, its scenario says: here all. */
static bool is_taken(const uint8_t *identity) {
  static const uint8_t none[sizeof((struct vm *)0)->identity];
  if (memcmp(identity, none, sizeof none) == 0) return false;
  for (struct vm *vm = files; vm != NULL; vm = vm->next)
    if (vm->vmid != INVALID_VMID && memcmp(vm->identity, identity, sizeof none) == 0) return true;
  return false;
}

long vm_create(struct vm *vm, const uint8_t *identity, uint64_t affinity, uint16_t *vmid, uint16_t *vcpus) {
  if (is_taken(identity)) return HV_REFUSED;
  memcpy(vm->identity, identity, sizeof vm->identity);
  vm->kvm_fd = ioctl(kvm_system, KVM_CREATE_VM, 0);
  if (vm->kvm_fd < 0) return -errno;
  uint64_t identity_map = IDENTITY_MAP_GPA;
  // The interrupt controllers before the first vCPU, or it has no local APIC.
  if (ioctl(vm->kvm_fd, KVM_SET_TSS_ADDR, TSS_GPA) < 0 || ioctl(vm->kvm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
      ioctl(vm->kvm_fd, KVM_CREATE_IRQCHIP, 0) < 0) {
    long error = -errno;
    close(vm->kvm_fd);
    return error;
  }
  vm->dead = false;
  vm->state = VM_CREATED;
  vm->vmid = next_vmid;
  next_vmid = next_vmid % (INVALID_VMID - 1) + 1;
  vms_created++;
  for (unsigned i = 0; i < cpus_of(affinity); i++) {
    long error = vcpu_add(vm);
    if (error < 0) {
      vm_destroy(vm);
      return error;
    }
  }
  *vmid = (uint16_t)vm->vmid;
  *vcpus = (uint16_t)vm->vcpu_count;
  SAY("vm %u created with %u vCPUs\n", vm->vmid, vm->vcpu_count);
  return 0;
}

/** The hypervisor starts a VM that was created or reset, and that has a request page. */
long vm_start(struct vm *vm) {
  if (vm->state != VM_CREATED || vm->slots == NULL) return HV_REFUSED;
  pthread_mutex_lock(&vm->lock);
  vm->state = VM_STARTED;
  for (unsigned i = 0; i < vm->vcpu_count; i++) {
    vm->vcpus[i]->started = true;
    pthread_cond_signal(&vm->vcpus[i]->wake);
  }
  pthread_mutex_unlock(&vm->lock);
  return 0;
}

long vm_pause(struct vm *vm) {
  pthread_mutex_lock(&vm->lock);
  for (unsigned i = 0; i < vm->vcpu_count; i++) vm->vcpus[i]->started = false;
  park_all(vm);
  resume_all(vm);
  vm->state = VM_PAUSED;
  pthread_mutex_unlock(&vm->lock);
  return 0;
}

/** Only a paused VM can be reset. Its vCPUs are as after creation and its requests are forgotten. */
long vm_reset(struct vm *vm) {
  if (vm->state != VM_PAUSED) return HV_REFUSED;
  pthread_mutex_lock(&vm->lock);
  ioreq_reset(vm);
  park_all(vm);
  for (unsigned i = 0; i < vm->vcpu_count; i++) vcpu_reset(vm->vcpus[i]);
  resume_all(vm);
  vm->state = VM_CREATED;
  pthread_mutex_unlock(&vm->lock);
  return 0;
}

void vm_destroy(struct vm *vm) {
  if (vm->vmid == INVALID_VMID) return;
  pthread_mutex_lock(&vm->lock);
  vm->dead = true;
  ioreq_destroy_client(vm);
  for (unsigned i = 0; i < vm->vcpu_count; i++) pthread_cond_signal(&vm->vcpus[i]->wake);
  park_all(vm);
  pthread_mutex_unlock(&vm->lock);
  for (unsigned i = 0; i < vm->vcpu_count; i++) vcpu_end(vm->vcpus[i]);
  vm->vcpu_count = 0;
  vm->pauses = 0;
  eventfd_release(vm);
  memory_release(vm);
  if (vm->slots != NULL) munmap(vm->slots, PAGE);
  if (vm->monitor != NULL) munmap(vm->monitor, PAGE);
  vm->slots = vm->monitor = NULL;
  close(vm->kvm_fd);
  vm->kvm_fd = -1;
  SAY("vm %u destroyed\n", vm->vmid);
  vm->vmid = INVALID_VMID;
  vm->state = VM_NONE;
  vm->destroyed = true;
  vms_destroyed++;
}
