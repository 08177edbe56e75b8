/* The watching thread: hang-ups of opened files, signals for who blocks in ATTACH, interrupts from event fds, the control device. */
#include "standin.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/** How late a signal or a death can be noticed. */
#define TICK_MS 5
#define LINE_SIZE 512

enum kind { FILE_CLOSED, EVENT, CONTROL };
static int epoll_fd;
/** Open connections to the control device. */
unsigned controls;

/** epoll gives back 64 bits: the kind and a descriptor. */
static void watch(int fd, enum kind kind, uint32_t events) {
  struct epoll_event event = {.events = events, .data.u64 = (uint64_t)kind << 32 | (uint32_t)fd};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

void watch_file(struct vm *vm) { watch(vm->hangup_fd, FILE_CLOSED, EPOLLRDHUP); }

void watch_eventfd(int fd) {
  // Edge triggered: each signal is an interrupt, and the count stays the client's.
  watch(fd, EVENT, EPOLLIN | EPOLLET);
}

/** Before it is closed: the client's copy would keep it alive in epoll. */
void unwatch(int fd) { epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL); }

void watch_control(int fd) {
  controls++;
  watch(fd, CONTROL, EPOLLIN | EPOLLRDHUP);
}

/** With files_lock. A file that is closed lives on while a thread blocks in an ioctl on it, as in the kernel. */
static bool try_release(struct vm *vm) {
  ioreq_watch_waiters(vm, false);
  if (vm->waiter_count > 0) return false;
  release_file(vm);
  return true;
}

static void file_closed(int fd) {
  for (struct vm *vm = files; vm != NULL; vm = vm->next)
    if (vm->hangup_fd == fd) {
      unwatch(fd);
      vm->hung_up = true;
      try_release(vm);
      return;
    }
}

static void signalled(int fd) {
  for (struct vm *vm = files; vm != NULL; vm = vm->next)
    for (struct eventfd *at = vm->eventfds; at != NULL; at = at->next)
      if (at->irq && at->fd == fd) interrupt_msi(vm, &at->msi);
}

/** One line, one answer: a line of JSON. */
static void obey(int fd) {
  char line[LINE_SIZE], *text = NULL;
  ssize_t length = read(fd, line, sizeof line - 1);
  if (length <= 0) {
    controls--;
    close(fd);
    return;
  }
  line[length] = '\0';
  line[strcspn(line, "\n")] = '\0';
  size_t size;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) return;
  if (strcmp(line, "state") == 0) {
    report_state(out);
  } else {
    const char *problem = fault_command(line);
    if (problem == NULL) fputs("{\"ok\":true}\n", out);
    else fprintf(out, "{\"ok\":false,\"problem\":\"%s\"}\n", problem);
  }
  fclose(out);
  if (write(fd, text, size) < 0) SAY("the control device is gone\n");
  free(text);
}

static void tick(void) {
  for (struct vm *vm = files, *next; vm != NULL; vm = next) {
    next = vm->next;
    if (vm->hung_up && try_release(vm)) continue;
    if (vm->waiter_count > 0) ioreq_watch_waiters(vm, true);
  }
}

static void *run(void *unused) {
  (void)unused;
  struct epoll_event events[16];
  for (;;) {
    int count = epoll_wait(epoll_fd, events, 16, TICK_MS);
    pthread_mutex_lock(&files_lock);
    for (int i = 0; i < count; i++) {
      int fd = (int)(uint32_t)events[i].data.u64;
      switch ((enum kind)(events[i].data.u64 >> 32)) {
        case FILE_CLOSED:
          file_closed(fd);
          break;
        case EVENT:
          signalled(fd);
          break;
        case CONTROL:
          obey(fd);
          break;
      }
    }
    tick();
    pthread_mutex_unlock(&files_lock);
  }
  return NULL;
}

void watch_start(void) {
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  pthread_t thread;
  if (epoll_fd < 0 || pthread_create(&thread, NULL, run, NULL) != 0) die("the watching thread");
}
