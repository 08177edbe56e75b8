/*
 * attach empty|used: creates and destroys the state of one vGPU. C has no attach_vgpu to compare with; this is the state
 * that a device model must keep, with the system calls that it must make:
 *
 * empty: an entry in the VM's list, after a look for the same id and PCI address.
 * used: also a trap area, a DMA reference and one write-protected page, all found and undone at the end.
 */
#include "subject.h"
#include "vm.h"
#include <stdlib.h>
#include <string.h>

#define BAR 0xc0000000u
#define BAR_SIZE (16u << 20)
#define FRAME 0x100u

struct range {
  uint64_t start, end;
  struct range *next;
};

struct vgpu {
  uint32_t id, bdf;
  struct range *traps, *tracked, *dma;
  struct vgpu *next;
};

static struct vm vm;
static struct vgpu *attached;
static int used;

static __attribute__((noinline)) struct vgpu *attach(uint32_t id, uint32_t bdf) {
  for (struct vgpu *other = attached; other != NULL; other = other->next)
    if (other->id == id || other->bdf == bdf) die("vGPU %u is attached", id);
  struct vgpu *vgpu = calloc(1, sizeof *vgpu);
  vgpu->id = id;
  vgpu->bdf = bdf;
  vgpu->next = attached;
  attached = vgpu;
  return vgpu;
}

static __attribute__((noinline)) void add(struct range **list, uint64_t start, uint64_t end) {
  for (struct range *other = *list; other != NULL; other = other->next)
    if (other->start <= end && start <= other->end) die("two ranges overlap");
  struct range *range = calloc(1, sizeof *range);
  range->start = start;
  range->end = end;
  range->next = *list;
  *list = range;
}

static __attribute__((noinline)) void clear(struct range **list) {
  while (*list != NULL) {
    struct range *range = *list;
    *list = range->next;
    free(range);
  }
}

/* The read-only flag of a slot cannot change and slots cannot overlap, so the slot around the frame is cut in three. */
static __attribute__((noinline)) void protect(uint64_t gpa) {
  vm_slot(&vm, 0, 0, 0, 0, NULL);
  vm_slot(&vm, 0, 0, 0, gpa, vm.ram);
  vm_slot(&vm, 1, KVM_MEM_READONLY, gpa, PAGE, vm.ram + gpa);
  vm_slot(&vm, 2, 0, gpa + PAGE, RAM_SIZE - gpa - PAGE, vm.ram + gpa + PAGE);
}

static __attribute__((noinline)) void unprotect(void) {
  for (uint32_t slot = 0; slot < 3; slot++) vm_slot(&vm, slot, 0, 0, 0, NULL);
  vm_slot(&vm, 0, 0, 0, RAM_SIZE, vm.ram);
}

static __attribute__((noinline)) void detach(struct vgpu *vgpu) {
  struct vgpu **link = &attached;
  while (*link != vgpu) link = &(*link)->next;
  *link = vgpu->next;
  if (vgpu->tracked != NULL) unprotect();
  clear(&vgpu->traps);
  clear(&vgpu->tracked);
  clear(&vgpu->dma);
  free(vgpu);
}

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    struct vgpu *vgpu = attach(1, 0x10);
    if (used) {
      add(&vgpu->traps, BAR, BAR + BAR_SIZE - 1);
      add(&vgpu->dma, FRAME + 1, FRAME + 1);
      add(&vgpu->tracked, FRAME, FRAME);
      protect(FRAME * PAGE);
    }
    detach(vgpu);
  }
  return now_ns() - start;
}

int main(int argc, char **argv) {
  if (argc != 2) die("usage: attach empty|used");
  used = strcmp(argv[1], "used") == 0;
  vm_create(&vm);
  serve(sample);
  return 0;
}
