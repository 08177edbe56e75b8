#include "pages.h"
#include "../subject.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A power of two, larger than the frames of any row. */
#define SLOTS (1u << 17)

static struct { uint64_t key; uint32_t references; } table[SLOTS];

static uint32_t slot_of(uint64_t key) {
  uint32_t slot = (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 47);
  while (table[slot].references != 0 && table[slot].key != key) slot = (slot + 1) & (SLOTS - 1);
  return slot;
}

void pages_create(struct pages *pages, size_t bytes) {
  pages->ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages->ram == MAP_FAILED) die("mmap failed");
  memset(pages->ram, 0, bytes);
  pages->frames = bytes / PAGE;
}

uint8_t *pages_map(struct pages *pages, uint64_t gfn) {
  if (gfn >= pages->frames) return NULL;
  uint32_t slot = slot_of(gfn);
  table[slot].key = gfn;
  table[slot].references++;
  return pages->ram + gfn * PAGE;
}

/* Backward-shift deletion: no tombstones that lookups would have to pass. */
void pages_unmap(struct pages *pages, uint64_t gfn) {
  (void)pages;
  uint32_t hole = slot_of(gfn);
  if (table[hole].references == 0 || --table[hole].references > 0) return;
  for (uint32_t next = (hole + 1) & (SLOTS - 1); table[next].references != 0; next = (next + 1) & (SLOTS - 1)) {
    uint32_t home = (uint32_t)((table[next].key * 0x9e3779b97f4a7c15u) >> 47);
    if (((next - home) & (SLOTS - 1)) < ((next - hole) & (SLOTS - 1))) continue;
    table[hole] = table[next];
    table[next].references = 0;
    hole = next;
  }
}
