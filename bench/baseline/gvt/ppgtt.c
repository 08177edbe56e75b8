/*
 * ppgtt build MIB | ppgtt resync CHANGED: the shadow of a four-level page table that maps MIB mebibytes, built page by page as the engine
 * reaches them; one page table that is compared with its copy, of which CHANGED entries changed and are reached again.
 */
#include "../subject.h"
#include "pages.h"
#include <stdlib.h>
#include <string.h>

/* As in bench/gvt/ours/ppgtt.ts. */
#define RAM_BYTES (256u << 20)
#define TABLES 0x1000u
#define DATA 0x4000u
#define DATA_FRAMES 0x8000u
#define PRESENT 1u

/* The copy of a table, and what its entries lead to. */
struct shadow {
  uint64_t gfn;
  uint64_t entries[ENTRIES];
  void *leads_to[ENTRIES];
};

static struct pages pages;
static uint32_t tables, changed;
static struct shadow *root;

static uint64_t *guest_table(uint64_t gfn) { return (uint64_t *)(pages.ram + gfn * PAGE); }

static struct shadow *shadow_of(uint64_t gfn) {
  if (gfn >= pages.frames) return NULL;
  struct shadow *shadow = calloc(1, sizeof *shadow);
  shadow->gfn = gfn;
  memcpy(shadow->entries, guest_table(gfn), PAGE);
  return shadow;
}

/* The page behind an address, walked over and mapped where that was not done before. */
static __attribute__((noinline)) uint8_t *page_at(uint64_t address) {
  struct shadow *table = root;
  for (int shift = 39; shift > 12; shift -= 9) {
    uint32_t index = (address >> shift) & (ENTRIES - 1);
    if (table->leads_to[index] == NULL) {
      if (!(table->entries[index] & PRESENT)) return NULL;
      table->leads_to[index] = shadow_of(frame_of(table->entries[index]));
      if (table->leads_to[index] == NULL) return NULL;
    }
    table = table->leads_to[index];
  }
  uint32_t index = (address >> 12) & (ENTRIES - 1);
  if (table->leads_to[index] == NULL && (table->entries[index] & PRESENT))
    table->leads_to[index] = pages_map(&pages, frame_of(table->entries[index]));
  return table->leads_to[index];
}

static void drop(struct shadow *table, int level) {
  for (uint32_t i = 0; i < ENTRIES; i++) {
    if (table->leads_to[i] == NULL) continue;
    if (level > 0) drop(table->leads_to[i], level - 1);
    else pages_unmap(&pages, frame_of(table->entries[i]));
  }
  free(table);
}

static void guest_tables(void) {
  for (uint32_t i = 0; i < 3; i++) guest_table(TABLES + i)[0] = (uint64_t)(TABLES + i + 1) * PAGE + 3;
  for (uint32_t i = 0; i < tables; i++) {
    guest_table(TABLES + 2)[i] = (uint64_t)(TABLES + 3 + i) * PAGE + 3;
    for (uint32_t j = 0; j < ENTRIES; j++)
      guest_table(TABLES + 3 + i)[j] = (uint64_t)(DATA + (i * ENTRIES + j) % DATA_FRAMES) * PAGE + 3;
  }
}

static uint64_t build(uint32_t count) {
  uint32_t each = tables * ENTRIES, rounds = (count + each - 1) / each;
  uint64_t ns = 0;
  for (uint32_t round = 0; round < rounds; round++) {
    uint64_t start = now_ns();
    root = shadow_of(TABLES);
    for (uint32_t page = 0; page < each; page++)
      if (page_at((uint64_t)page * PAGE) == NULL) die("page %u is not mapped", page);
    ns += now_ns() - start;
    drop(root, 3);
  }
  return ns / rounds * count / each;
}

static uint64_t resync(uint32_t count) {
  struct shadow *table = ((struct shadow *)((struct shadow *)root->leads_to[0])->leads_to[0])->leads_to[0];
  uint64_t *guest = guest_table(table->gfn);
  uint64_t ns = 0;
  uint64_t copy[ENTRIES];
  for (uint32_t round = 0; round < count; round++) {
    for (uint32_t i = 0; i < changed; i++) guest[i] = (uint64_t)(DATA + i + (round & 1 ? 0 : ENTRIES)) * PAGE + 3;
    uint64_t start = now_ns();
    memcpy(copy, guest, PAGE);
    for (uint32_t i = 0; i < ENTRIES; i++) {
      if (copy[i] == table->entries[i]) continue;
      if (table->leads_to[i] != NULL) pages_unmap(&pages, frame_of(table->entries[i]));
      table->leads_to[i] = NULL;
      table->entries[i] = copy[i];
    }
    for (uint32_t i = 0; i < changed; i++)
      if (page_at((uint64_t)i * PAGE) == NULL) die("page %u is not mapped", i);
    ns += now_ns() - start;
  }
  return ns;
}

int main(int argc, char **argv) {
  if (argc != 3) die("usage: ppgtt build MIB | ppgtt resync CHANGED");
  int builds = strcmp(argv[1], "build") == 0;
  uint32_t number = strtoul(argv[2], NULL, 10);
  tables = builds ? number / 2 : 1;
  changed = number;
  pages_create(&pages, RAM_BYTES);
  guest_tables();
  if (!builds) {
    root = shadow_of(TABLES);
    for (uint32_t page = 0; page < ENTRIES; page++) page_at((uint64_t)page * PAGE);
  }
  serve(builds ? build : resync);
  return 0;
}
