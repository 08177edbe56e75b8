/* blit fill|copy: memset or memcpy of 1920 x 1080 pixels of 4 bytes, between pages of one mapping. */
#include "../subject.h"
#include "pages.h"
#include <string.h>

#define BYTES (1920u * 1080u * 4u)
/* As in bench/gvt/ours/blit.ts. */
#define RAM_BYTES (32u << 20)
#define TARGET 0x200000u
#define SOURCE 0x1000000u

static struct pages pages;
static int fills;

static __attribute__((noinline)) void blit(uint8_t *target, const uint8_t *source, size_t size, int color) {
  if (fills) memset(target, color, size);
  else memcpy(target, source, size);
  __asm__ volatile("" : : "r"(target) : "memory");
}

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) blit(pages.ram + TARGET, pages.ram + SOURCE, BYTES, (int)(i & 0xff));
  return now_ns() - start;
}

int main(int argc, char **argv) {
  if (argc != 2) die("usage: blit fill|copy");
  fills = strcmp(argv[1], "fill") == 0;
  pages_create(&pages, RAM_BYTES);
  memset(pages.ram + SOURCE, 0x5a, BYTES);
  serve(sample);
  return 0;
}
