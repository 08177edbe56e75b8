/*
 * What a device model in C would have for the pages that a GPU reaches: guest RAM in one mapping, and the frames that are mapped
 * for DMA with their reference counts, in a hash table with open addressing. A frame's DMA address is its address here.
 */
#ifndef PAGES_H
#define PAGES_H
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096u
#define ENTRIES 512u

struct pages {
  uint8_t *ram;
  uint64_t frames;
};

/* RAM of so many bytes, populated, and an empty table. */
void pages_create(struct pages *pages, size_t bytes);
/* One more reference to the frame. Returns its first byte, or NULL when it is not guest RAM. */
uint8_t *pages_map(struct pages *pages, uint64_t gfn);
/* One reference less. */
void pages_unmap(struct pages *pages, uint64_t gfn);

/* Bits 12-45 of a page-table entry. */
static inline uint64_t frame_of(uint64_t entry) { return (entry & 0x3ffffffff000u) >> 12; }

#endif
