/*
 * copies read|write LENGTH: memcpy between mapped guest RAM and a buffer of the process's heap. The length is known at run
 * time only, and the compiler must take it that the bytes are used.
 */
#include "subject.h"
#include "vm.h"
#include <stdlib.h>
#include <string.h>

#define FIRST 0x100000u

static struct vm vm;
static uint8_t *buffer;
static size_t length;
static uint32_t places;
static int reads;

static __attribute__((noinline)) void copy(void *target, const void *source, size_t size) {
  memcpy(target, source, size);
  __asm__ volatile("" : : "r"(target) : "memory");
}

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    uint8_t *guest = vm.ram + FIRST + (i & (places - 1)) * PAGE;
    if (reads) copy(buffer, guest, length);
    else copy(guest, buffer, length);
  }
  return now_ns() - start;
}

int main(int argc, char **argv) {
  if (argc != 3) die("usage: copies read|write LENGTH");
  reads = strcmp(argv[1], "read") == 0;
  length = strtoul(argv[2], NULL, 10);
  if (length == 0 || length > RAM_SIZE - FIRST) die("a length is 1 to %u", RAM_SIZE - FIRST);
  /* As on our side: up to a page the copies take turns over four pages, which stay in the first-level cache. */
  places = length <= PAGE ? 4 : 1;
  vm_create(&vm);
  memset(vm.ram + FIRST, 0x5a, RAM_SIZE - FIRST);
  buffer = malloc(length);
  memset(buffer, 0xa5, length);
  serve(sample);
  return 0;
}
