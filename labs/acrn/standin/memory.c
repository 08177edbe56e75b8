/*
 * Guest memory. The client's pages are mapped into this process and given to KVM as slots; a slot is cut where a part of it gets
 * other rights or goes away. Callers hold files_lock; vCPUs are parked while slots change.
 */
#include "standin.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/** Guest physical addresses end here: what four levels of second-level tables reach. */
#define GPA_END (1UL << 48)

static bool overlaps(const struct segment *segment, uint64_t gpa, uint64_t size) {
  return gpa < segment->gpa + segment->size && segment->gpa < gpa + size;
}

/** Index of the first segment that ends behind `gpa`. Segments are sorted and disjoint. */
static unsigned first_behind(const struct vm *vm, uint64_t gpa) {
  unsigned low = 0, high = vm->segment_count;
  while (low < high) {
    unsigned middle = (low + high) / 2;
    if (vm->segments[middle].gpa + vm->segments[middle].size <= gpa) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The rights of a page, 0 when nothing is mapped there. */
uint32_t memory_access(const struct vm *vm, uint64_t gpa) {
  unsigned at = first_behind(vm, gpa);
  return at < vm->segment_count && vm->segments[at].gpa <= gpa ? vm->segments[at].access : 0;
}

static int set_slot(struct vm *vm, const struct segment *segment, uint64_t size) {
  struct kvm_userspace_memory_region region = {
      .slot = segment->slot,
      .flags = segment->access & ACRN_MEM_ACCESS_WRITE ? 0 : KVM_MEM_READONLY,
      .guest_phys_addr = segment->gpa,
      .memory_size = size,
      .userspace_addr = (uintptr_t)segment->hva,
  };
  return ioctl(vm->kvm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/** With room for it (reserve). */
static int insert(struct vm *vm, unsigned at, struct segment segment) {
  segment.slot = vm->free_slot_count > 0 ? vm->free_slots[--vm->free_slot_count] : vm->next_slot++;
  if (set_slot(vm, &segment, segment.size) < 0) {
    int error = -errno;
    vm->free_slots[vm->free_slot_count++] = segment.slot;
    return error;
  }
  memmove(&vm->segments[at + 1], &vm->segments[at], (vm->segment_count - at) * sizeof segment);
  vm->segments[at] = segment;
  vm->segment_count++;
  segment.in->segments++;
  return 0;
}

static struct segment take(struct vm *vm, unsigned at) {
  struct segment segment = vm->segments[at];
  set_slot(vm, &segment, 0);
  vm->free_slots[vm->free_slot_count++] = segment.slot;
  vm->segment_count--;
  memmove(&vm->segments[at], &vm->segments[at + 1], (vm->segment_count - at) * sizeof segment);
  segment.in->segments--;
  return segment;
}

/** Lets go of pages that nothing shows any more and that are not pinned as RAM. */
static void drop_unused(struct vm *vm, struct mapping *mapping) {
  if (mapping->ram || mapping->segments > 0) return;
  for (struct mapping **at = &vm->mappings; *at != NULL; at = &(*at)->next)
    if (*at == mapping) {
      *at = mapping->next;
      break;
    }
  munmap(mapping->hva, mapping->size);
  free(mapping);
}

static bool reserve(struct vm *vm, unsigned more) {
  if (vm->segment_count + more <= vm->segment_room) return true;
  unsigned room = vm->segment_room * 2 + more + 16;
  struct segment *segments = realloc(vm->segments, room * sizeof *segments);
  if (segments == NULL) return false;
  vm->segments = segments;
  // As many numbers can be free as were ever in use.
  uint32_t *slots = realloc(vm->free_slots, 2 * room * sizeof *slots);
  if (slots == NULL) return false;
  vm->free_slots = slots;
  vm->segment_room = room;
  return true;
}

static long check_range(uint64_t gpa, uint64_t size) {
  return size == 0 || (gpa | size) % PAGE != 0 || size > GPA_END || gpa > GPA_END - size ? -EINVAL : 0;
}

/** Shows the guest a part of a mapping. Over a present one the real hypervisor panics, or says so and keeps the old one: refused. */
static long show(struct vm *vm, struct mapping *mapping, uint64_t offset, uint64_t gpa, uint64_t size, uint32_t access) {
  unsigned at = first_behind(vm, gpa);
  if (at < vm->segment_count && overlaps(&vm->segments[at], gpa, size)) {
    fprintf(stderr, "standin: vm %u: a mapping at gpa %#lx, %#lx bytes, over a present one: the real hypervisor panics\n", vm->vmid,
            (unsigned long)gpa, (unsigned long)size);
    return -EINVAL;
  }
  access &= ACRN_MEM_ACCESS_RIGHT_MASK;
  if (access == 0) return 0;
  if (!reserve(vm, 1)) return -ENOMEM;
  struct segment segment = {.gpa = gpa, .size = size, .hva = mapping->hva + offset, .access = access, .in = mapping};
  pthread_mutex_lock(&vm->lock);
  park_all(vm);
  long result = insert(vm, at, segment);
  resume_all(vm);
  pthread_mutex_unlock(&vm->lock);
  return result;
}

static long new_mapping(struct vm *vm, pid_t pid, uint64_t gpa, uint64_t va, uint64_t size, struct mapping **made) {
  struct mapping *mapping = calloc(1, sizeof *mapping);
  if (mapping == NULL) return -ENOMEM;
  *mapping = (struct mapping){.pid = pid, .gpa = gpa, .va = va, .size = size, .next = vm->mappings};
  long result = share(pid, va, size, &mapping->hva);
  if (result < 0) {
    free(mapping);
    return result;
  }
  vm->mappings = mapping;
  *made = mapping;
  return 0;
}

/** RAM: an entry of the table each, which only the end of the VM gives back. */
long memory_add_ram(struct vm *vm, pid_t tid, uint64_t gpa, uint64_t va, uint64_t size, uint32_t access) {
  if (check_range(gpa, size) < 0 || va % PAGE != 0) return -EINVAL;
  struct mapping *mapping;
  // In the order of the real module: the pages are pinned before the table is looked at.
  long result = new_mapping(vm, process_of(tid), gpa, va, size, &mapping);
  if (result < 0) return result;
  bool too_many = vm->abi->ram_pages != 0 && size / PAGE > vm->abi->ram_pages;
  result = vm->table_used == REGION_TABLE || too_many ? -ENOMEM : show(vm, mapping, 0, gpa, size, access);
  if (result < 0) {
    drop_unused(vm, mapping);
    return result;
  }
  mapping->ram = true;
  vm->table_used++;
  return 0;
}

/** Where pages of the client with these physical addresses are in our mappings of it: most often where this gpa was first. */
static long find_frames(struct vm *vm, pid_t pid, uint64_t gpa, uint64_t physical, uint64_t size, struct mapping **in, uint64_t *va) {
  for (struct mapping *mapping = vm->mappings; mapping != NULL; mapping = mapping->next) {
    uint64_t offset = gpa - mapping->gpa;
    if (mapping->pid != pid || gpa < mapping->gpa || offset >= mapping->size || size > mapping->size - offset) continue;
    *in = mapping;
    *va = mapping->va + offset;
    if (frames_are(pid, *va, physical, size)) return 0;
  }
  for (struct mapping *mapping = vm->mappings; mapping != NULL; mapping = mapping->next) {
    *in = mapping;
    if (mapping->pid == pid && frames_find(pid, mapping->va, mapping->va + mapping->size, physical, size, va) == 0) return 0;
  }
  long result = frames_find_anywhere(pid, physical, size, va);
  return result < 0 ? result : new_mapping(vm, pid, gpa, *va, size, in);
}

/** MMIO: pages by their physical address in the service VM. No table entry. */
long memory_add_frames(struct vm *vm, pid_t tid, uint64_t gpa, uint64_t physical, uint64_t size, uint32_t access) {
  if (check_range(gpa, size) < 0 || physical % PAGE != 0) return -EINVAL;
  struct mapping *mapping;
  uint64_t va;
  long result = find_frames(vm, process_of(tid), gpa, physical, size, &mapping, &va);
  if (result < 0) return result;
  result = show(vm, mapping, va - mapping->va, gpa, size, access);
  drop_unused(vm, mapping);
  return result;
}

/** Takes a range from the guest, whatever is there. RAM stays pinned. */
long memory_remove(struct vm *vm, uint64_t gpa, uint64_t size) {
  if (check_range(gpa, size) < 0) return -EINVAL;
  pthread_mutex_lock(&vm->lock);
  if (!reserve(vm, 2)) {
    pthread_mutex_unlock(&vm->lock);
    return -ENOMEM;
  }
  unsigned at = first_behind(vm, gpa);
  long result = 0;
  if (at < vm->segment_count && overlaps(&vm->segments[at], gpa, size)) {
    park_all(vm);
    while (result == 0 && at < vm->segment_count && overlaps(&vm->segments[at], gpa, size)) {
      struct segment whole = take(vm, at), left = whole, right = whole;
      left.size = gpa > whole.gpa ? gpa - whole.gpa : 0;
      uint64_t cut = gpa + size - whole.gpa;
      right.size = whole.size > cut ? whole.size - cut : 0;
      right.gpa += cut;
      right.hva += cut;
      if (left.size > 0) result = insert(vm, at++, left);
      if (result == 0 && right.size > 0) result = insert(vm, at, right);
      drop_unused(vm, whole.in);
    }
    resume_all(vm);
  }
  pthread_mutex_unlock(&vm->lock);
  return result;
}

/** Of a VM whose vCPUs have ended. */
void memory_release(struct vm *vm) {
  while (vm->mappings != NULL) {
    struct mapping *mapping = vm->mappings;
    vm->mappings = mapping->next;
    munmap(mapping->hva, mapping->size);
    free(mapping);
  }
  free(vm->segments);
  free(vm->free_slots);
  vm->segments = NULL;
  vm->free_slots = NULL;
  vm->segment_count = vm->segment_room = vm->free_slot_count = vm->next_slot = vm->table_used = 0;
}
