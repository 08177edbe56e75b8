#include "memory.h"
#include "../subject.h"
#include "domain.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BUCKET (1u << 20)
#define BUCKET_PAGES (BUCKET / PAGE)
#define BUCKETS 256u

/* By number of the MiB, modulo the table's size: a newer mapping replaces one that falls into the same place. */
static struct bucket {
  uint64_t number;
  uint8_t *bytes;
  int errors[BUCKET_PAGES];
} cache[BUCKETS];

static __attribute__((noinline)) void map(uint32_t domid, uint64_t number, struct bucket *bucket) {
  xen_pfn_t gfns[BUCKET_PAGES];
  if (bucket->bytes != NULL) must(xenforeignmemory_unmap(fm, bucket->bytes, BUCKET_PAGES), "xenforeignmemory_unmap");
  for (uint32_t i = 0; i < BUCKET_PAGES; i++) gfns[i] = number * BUCKET_PAGES + i;
  bucket->bytes = xenforeignmemory_map(fm, domid, PROT_READ | PROT_WRITE, BUCKET_PAGES, gfns, bucket->errors);
  if (bucket->bytes == NULL) die("xenforeignmemory_map failed: %s", strerror(errno));
  bucket->number = number;
}

/* The byte at `gpa`; `length` becomes what follows it in the same bucket at most. */
static uint8_t *locate(uint32_t domid, uint64_t gpa, size_t *length) {
  uint64_t number = gpa / BUCKET;
  uint32_t at = gpa % BUCKET;
  struct bucket *bucket = &cache[number % BUCKETS];
  if (bucket->number != number || bucket->bytes == NULL) map(domid, number, bucket);
  if (*length > BUCKET - at) *length = BUCKET - at;
  for (uint32_t page = at / PAGE; page <= (at + *length - 1) / PAGE; page++)
    if (bucket->errors[page] != 0) die("no RAM at 0x%llx", (unsigned long long)gpa);
  return bucket->bytes + at;
}

__attribute__((noinline)) void memory_read(uint32_t domid, uint64_t gpa, void *target, size_t length) {
  for (size_t done = 0, part; done < length; done += part) {
    part = length - done;
    const uint8_t *source = locate(domid, gpa + done, &part);
    memcpy((uint8_t *)target + done, source, part);
  }
  __asm__ volatile("" : : "r"(target) : "memory");
}

__attribute__((noinline)) void memory_write(uint32_t domid, uint64_t gpa, const void *source, size_t length) {
  for (size_t done = 0, part; done < length; done += part) {
    part = length - done;
    uint8_t *target = locate(domid, gpa + done, &part);
    memcpy(target, (const uint8_t *)source + done, part);
  }
}
