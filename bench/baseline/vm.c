#include "vm.h"
#include "subject.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CPUID_ENTRIES 256
#define TSS_GPA 0xfffbd000u
#define IDENTITY_MAP_GPA 0xfffbc000u

static int kvm_fd = -1;
static size_t run_size;

long must(long result, const char *what) {
  if (result < 0) die("%s failed: %s", what, strerror(errno));
  return result;
}

static void set_cpuid(struct vm *vm) {
  struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + CPUID_ENTRIES * sizeof cpuid->entries[0]);
  cpuid->nent = CPUID_ENTRIES;
  must(ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
  must(ioctl(vm->vcpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
  free(cpuid);
}

void vm_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *host) {
  struct kvm_userspace_memory_region region = {slot, flags, gpa, size, (uintptr_t)host};
  must(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

void vm_create(struct vm *vm) {
  uint64_t identity = IDENTITY_MAP_GPA;
  if (kvm_fd < 0) {
    kvm_fd = (int)must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "opening /dev/kvm");
    run_size = (size_t)must(ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  }
  vm->kvm = kvm_fd;
  vm->fd = (int)must(ioctl(vm->kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  must(ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_GPA), "KVM_SET_TSS_ADDR");
  must(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity), "KVM_SET_IDENTITY_MAP_ADDR");
  must(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  vm->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (vm->ram == MAP_FAILED) die("mapping guest RAM failed: %s", strerror(errno));
  vm_slot(vm, 0, 0, 0, RAM_SIZE, vm->ram);
  vm->vcpu = (int)must(ioctl(vm->fd, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  vm->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
  if (vm->run == MAP_FAILED) die("mapping the vCPU failed: %s", strerror(errno));
  set_cpuid(vm);
}

void vm_destroy(struct vm *vm) {
  munmap(vm->run, run_size);
  close(vm->vcpu);
  munmap(vm->ram, RAM_SIZE);
  close(vm->fd);
}

void vm_boot(struct vm *vm, uint32_t gpa, const uint8_t *image, size_t length) {
  struct kvm_sregs sregs;
  struct kvm_regs regs = {.rip = 0, .rflags = 2};
  memcpy(vm->ram + gpa, image, length);
  must(ioctl(vm->vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = gpa;
  sregs.cs.selector = (uint16_t)(gpa >> 4);
  must(ioctl(vm->vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  must(ioctl(vm->vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

size_t read_image(const char *path, uint8_t image[PAGE]) {
  int fd = (int)must(open(path, O_RDONLY | O_CLOEXEC), path);
  size_t length = (size_t)must(read(fd, image, PAGE), path);
  close(fd);
  return length;
}
