/*
 * The smallest KVM virtual machine that runs the guest agent: the slots, interrupt controllers, CPUID and device that the kvm
 * backend gives it, without checks, counters, tables or layers.
 */
#ifndef VM_H
#define VM_H
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096u
#define RAM_SIZE (16u << 20)

struct vm {
  int kvm, fd, vcpu;
  struct kvm_run *run;
  uint8_t *ram;
};

/* Opens /dev/kvm once a process; vm.kvm of all machines. */
void vm_create(struct vm *vm);
void vm_destroy(struct vm *vm);
/* Memory slot; a size of 0 deletes it. */
void vm_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *host);
/* Copies the image to `gpa` and points the vCPU at it in real mode. */
void vm_boot(struct vm *vm, uint32_t gpa, const uint8_t *image, size_t length);
/* Reads a file of at most one page. */
size_t read_image(const char *path, uint8_t image[PAGE]);

/* Makes a system call's failure end the program. */
long must(long result, const char *what);

#endif
