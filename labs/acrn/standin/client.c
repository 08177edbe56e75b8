/* Memory of the program under test: copied like the kernel copies it, and shared for guest RAM and the request page. */
#include "standin.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

int copy_in(const struct call *call, void *to, size_t size) {
  struct iovec local = {to, size}, remote = {(void *)call->arg, size};
  return process_vm_readv(call->tid, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

int copy_out(const struct call *call, const void *from, size_t size) {
  struct iovec local = {(void *)from, size}, remote = {(void *)call->arg, size};
  return process_vm_writev(call->tid, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

/**
 * Maps [va, va + size) of a thread's memory, the same pages. Only memory that is mapped MAP_SHARED can be shared; the real module
 * pins pages and takes private memory too.
 */
long share(pid_t tid, uint64_t va, uint64_t size, uint8_t **hva) {
  char path[96], line[512];
  snprintf(path, sizeof path, "/proc/%d/maps", tid);
  FILE *maps = fopen(path, "re");
  if (maps == NULL) return -EFAULT;
  long result = -EFAULT;
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long start, end, offset;
    char rights[5];
    if (sscanf(line, "%lx-%lx %4s %lx", &start, &end, rights, &offset) != 4 || va < start || va >= end) continue;
    if (size > end - va || rights[1] != 'w') break;
    if (rights[3] != 's') {
      fprintf(stderr, "standin: memory at %#lx of thread %d is private: only MAP_SHARED memory can be shared\n", (unsigned long)va, tid);
      break;
    }
    snprintf(path, sizeof path, "/proc/%d/map_files/%lx-%lx", tid, start, end);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) break;
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(offset + (va - start)));
    result = mapped == MAP_FAILED ? -ENOMEM : 0;
    if (result == 0) *hva = mapped;
    close(fd);
    break;
  }
  fclose(maps);
  return result;
}

/** The process of a thread; the thread itself when it is gone. */
pid_t process_of(pid_t tid) {
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%d/status", tid);
  FILE *status = fopen(path, "re");
  pid_t pid = tid;
  if (status == NULL) return pid;
  while (fgets(line, sizeof line, status) != NULL)
    if (sscanf(line, "Tgid: %d", &pid) == 1) break;
  fclose(status);
  return pid;
}
