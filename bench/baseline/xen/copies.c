/*
 * copies read LENGTH: from a domain's memory to a buffer of the process's heap: the address is looked up among the mappings
 * that are kept, then memcpy. The length is known at run time only.
 */
#include "../subject.h"
#include "domain.h"
#include "memory.h"
#include "subjects.h"
#include <stdlib.h>
#include <string.h>

#define FIRST 0x100000u

static uint32_t domid, places;
static uint8_t *buffer;
static size_t length;

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) memory_read(domid, FIRST + (i & (places - 1)) * PAGE, buffer, length);
  return now_ns() - start;
}

sample_fn *copies(char **args) {
  if (strcmp(args[0], "read") != 0) die("copies are reads");
  length = strtoul(args[1], NULL, 10);
  if (length == 0 || length > RAM_SIZE - FIRST) die("a length is 1 to %u", RAM_SIZE - FIRST);
  /* As on our side: up to a page the copies take turns over four pages. */
  places = length <= PAGE ? 4 : 1;
  domid = domain_create();
  buffer = malloc(RAM_SIZE - FIRST);
  memset(buffer, 0x5a, RAM_SIZE - FIRST);
  memory_write(domid, FIRST, buffer, RAM_SIZE - FIRST);
  return sample;
}
