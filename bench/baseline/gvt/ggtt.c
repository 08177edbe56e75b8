/* ggtt: a GGTT entry is written with 8 bytes at a guest-physical address; the frame before is unmapped, the new one mapped. */
#include "../subject.h"
#include "pages.h"
#include <string.h>

/* As in bench/gvt/ours/ggtt.ts. */
#define RAM_BYTES (16u << 20)
#define BAR 0xe0000000u
#define GGTT 0x800000u
#define GGTT_ENTRIES (1u << 20)
/* The vGPU's own entries. */
#define FIRST 0u
#define COUNT 16384u
#define FRAMES 1024u

static struct pages pages;
static uint64_t entries[COUNT];
static uint8_t *mapped[COUNT];

static __attribute__((noinline)) int mmio_write(uint64_t gpa, uint64_t value, uint32_t size) {
  uint64_t offset = gpa - BAR;
  if (offset < GGTT || offset - GGTT >= GGTT_ENTRIES * 8u || size != 8 || offset % 8 != 0) return -1;
  uint64_t index = (offset - GGTT) / 8 - FIRST;
  if (index >= COUNT) return 0;
  uint64_t old = entries[index];
  entries[index] = value;
  if (mapped[index] != NULL && (value & 1) && frame_of(old) == frame_of(value)) return 0;
  if (mapped[index] != NULL) pages_unmap(&pages, frame_of(old));
  mapped[index] = value & 1 ? pages_map(&pages, frame_of(value)) : NULL;
  return 0;
}

static uint64_t sample(uint32_t count) {
  static uint32_t turn;
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++, turn++)
    if (mmio_write(BAR + GGTT + (turn % 512) * 8, (uint64_t)(turn % FRAMES) * PAGE + 1, 8) != 0) die("refused");
  return now_ns() - start;
}

int main(void) {
  pages_create(&pages, RAM_BYTES);
  serve(sample);
  return 0;
}
