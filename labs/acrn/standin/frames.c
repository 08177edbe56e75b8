/* Physical pages of the client, found through /proc/PID/pagemap: what an MMIO mapping names instead of a virtual address. */
#include "standin.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PRESENT (1ULL << 63)
#define FRAME ((1ULL << 55) - 1)
#define CHUNK 4096

static int open_pagemap(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
  return open(path, O_RDONLY | O_CLOEXEC);
}

/** Entries of the pages from `va` on. @return how many */
static unsigned read_entries(int pagemap, uint64_t va, uint64_t *entries, unsigned count) {
  ssize_t bytes = pread(pagemap, entries, count * sizeof *entries, (off_t)(va / PAGE * sizeof *entries));
  return bytes <= 0 ? 0 : (unsigned)((size_t)bytes / sizeof *entries);
}

static bool are(int pagemap, uint64_t va, uint64_t physical, uint64_t size) {
  uint64_t entries[CHUNK], frame = physical / PAGE;
  for (uint64_t pages = size / PAGE; pages > 0;) {
    unsigned wanted = pages < CHUNK ? (unsigned)pages : CHUNK;
    if (read_entries(pagemap, va, entries, wanted) != wanted) return false;
    for (unsigned i = 0; i < wanted; i++, frame++)
      if ((entries[i] & PRESENT) == 0 || (entries[i] & FRAME) != frame) return false;
    pages -= wanted;
    va += wanted * PAGE;
  }
  return true;
}

/** True when the pages at `va` are those at the physical address. */
bool frames_are(pid_t pid, uint64_t va, uint64_t physical, uint64_t size) {
  int pagemap = open_pagemap(pid);
  bool same = pagemap >= 0 && are(pagemap, va, physical, size);
  if (pagemap >= 0) close(pagemap);
  return same;
}

/** Looks for the pages in [start, end). @return 0, or -EFAULT when they are not there in one piece */
long frames_find(pid_t pid, uint64_t start, uint64_t end, uint64_t physical, uint64_t size, uint64_t *va) {
  int pagemap = open_pagemap(pid);
  if (pagemap < 0) return -EFAULT;
  uint64_t entries[CHUNK], at = start;
  long result = -EFAULT;
  while (result < 0 && at < end) {
    uint64_t left = (end - at) / PAGE;
    unsigned count = read_entries(pagemap, at, entries, left < CHUNK ? (unsigned)left : CHUNK);
    if (count == 0) break;
    for (unsigned i = 0; i < count; i++) {
      uint64_t here = at + i * PAGE;
      if ((entries[i] & PRESENT) == 0 || (entries[i] & FRAME) != physical / PAGE) continue;
      if (size > end - here || !are(pagemap, here, physical, size)) continue;
      *va = here;
      result = 0;
      break;
    }
    at += count * PAGE;
  }
  close(pagemap);
  return result;
}

/** Looks through all shared memory of the process. */
long frames_find_anywhere(pid_t pid, uint64_t physical, uint64_t size, uint64_t *va) {
  char path[64], line[512];
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE *maps = fopen(path, "re");
  if (maps == NULL) return -EFAULT;
  long result = -EFAULT;
  while (result < 0 && fgets(line, sizeof line, maps) != NULL) {
    unsigned long start, end;
    char rights[5];
    if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) != 3 || strcmp(rights, "rw-s") != 0) continue;
    result = frames_find(pid, start, end, physical, size, va);
  }
  fclose(maps);
  return result;
}
