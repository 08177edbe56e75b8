/* Event descriptors: a guest's write that signals one, and one whose signal is an interrupt. Both are the kernel module's own clients. */
#include "standin.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_eventfd(int fd) {
  char path[64], target[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(path, target, sizeof target - 1);
  if (length < 0) return false;
  target[length] = '\0';
  return strcmp(target, "anon_inode:[eventfd]") == 0;
}

/** Our own descriptor for one of the client's. @return it, or an error */
static int fetch(const struct call *call, int fd) {
  int ours = file_of_call(call, fd);
  if (ours < 0) return -EBADF;
  if (is_eventfd(ours)) return ours;
  close(ours);
  return -EINVAL;
}

static long add(struct vm *vm, const struct call *call, struct eventfd given) {
  struct eventfd *eventfd = malloc(sizeof *eventfd);
  if (eventfd == NULL) return -ENOMEM;
  given.fd = fetch(call, given.client_fd);
  if (given.fd < 0) {
    free(eventfd);
    return given.fd;
  }
  *eventfd = given;
  pthread_mutex_lock(&vm->lock);
  eventfd->next = vm->eventfds;
  vm->eventfds = eventfd;
  pthread_mutex_unlock(&vm->lock);
  if (eventfd->irq) watch_eventfd(eventfd->fd);
  return 0;
}

static bool same(const struct eventfd *one, const struct eventfd *other) {
  if (one->irq != other->irq) return false;
  if (one->irq) return one->client_fd == other->client_fd;
  bool data = !one->match || !other->match || one->data == other->data;
  return one->port == other->port && one->addr == other->addr && (one->len == other->len || one->len == 0 || other->len == 0) && data;
}

static struct eventfd *find(struct vm *vm, const struct eventfd *wanted) {
  for (struct eventfd *at = vm->eventfds; at != NULL; at = at->next)
    if (same(at, wanted)) return at;
  return NULL;
}

static void drop(struct vm *vm, struct eventfd *gone) {
  pthread_mutex_lock(&vm->lock);
  for (struct eventfd **at = &vm->eventfds; *at != NULL; at = &(*at)->next)
    if (*at == gone) {
      *at = gone->next;
      break;
    }
  pthread_mutex_unlock(&vm->lock);
  if (gone->irq) unwatch(gone->fd);
  close(gone->fd);
  free(gone);
}

long eventfd_io(struct vm *vm, const struct call *call) {
  struct acrn_ioeventfd args;
  if (copy_in(call, &args, sizeof args) < 0) return -EFAULT;
  if (args.reserved != 0) return -EINVAL;
  struct eventfd wanted = {
      .client_fd = (int)args.fd,
      .addr = args.addr,
      .len = args.len,
      .data = args.data,
      .port = args.flags & ACRN_IOEVENTFD_FLAG_PIO,
      .match = args.flags & ACRN_IOEVENTFD_FLAG_DATAMATCH,
  };
  struct eventfd *present = find(vm, &wanted);
  if (args.flags & ACRN_IOEVENTFD_FLAG_DEASSIGN) {
    if (present != NULL) drop(vm, present);
    return 0;
  }
  if (args.addr + args.len < args.addr) return -EINVAL;
  if (args.len != 1 && args.len != 2 && args.len != 4 && args.len != 8) return -EINVAL;
  return present != NULL ? -EEXIST : add(vm, call, wanted);
}

long eventfd_irq(struct vm *vm, const struct call *call) {
  struct acrn_irqfd args;
  if (copy_in(call, &args, sizeof args) < 0) return -EFAULT;
  struct eventfd wanted = {.client_fd = args.fd, .irq = true, .msi = args.msi};
  struct eventfd *present = find(vm, &wanted);
  if (args.flags & ACRN_IRQFD_FLAG_DEASSIGN) {
    if (present != NULL) drop(vm, present);
    return 0;
  }
  return present != NULL ? -EBUSY : add(vm, call, wanted);
}

/** With vm->lock. @return true when an eventfd has the address: reads give 0, a write that matches signals */
bool eventfd_takes(struct vm *vm, const struct acrn_io_request *request) {
  if (request->type != ACRN_IOREQ_TYPE_MMIO && request->type != ACRN_IOREQ_TYPE_PORTIO) return false;
  // Ports and memory have the same fields in the same place.
  const struct acrn_mmio_request *io = &request->reqs.mmio_request;
  bool port = request->type == ACRN_IOREQ_TYPE_PORTIO, taken = false;
  for (struct eventfd *at = vm->eventfds; at != NULL; at = at->next) {
    if (at->irq || at->port != port || at->addr != io->address || io->size > at->len) continue;
    taken = true;
    uint64_t value = port ? (uint32_t)io->value : io->value, one = 1;
    if (io->direction == ACRN_IOREQ_DIR_WRITE && (!at->match || value == at->data) && write(at->fd, &one, sizeof one) < 0)
      SAY("an eventfd is full\n");
  }
  if (taken && io->direction == ACRN_IOREQ_DIR_READ) ((struct acrn_io_request *)request)->reqs.mmio_request.value = 0;
  return taken;
}

void eventfd_release(struct vm *vm) {
  while (vm->eventfds != NULL) drop(vm, vm->eventfds);
}
