/* System calls of the program under test: a seccomp filter hands them over, and what is not ours goes on as it was. */
#include "standin.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

#define CONTROL_PATH "/dev/acrn_standin"
/** Longer than every path that is ours. */
#define PATH_SIZE 24

static int listener = -1;
/** The child waits for a byte from here. */
static int starter = -1;

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)

/** openat, access and faccessat; and ioctl with an HSM's type byte (0xA2) or a VHM's number (0x43 << 24 | n, n below 256). */
static int install_filter(void) {
  struct sock_filter program[] = {
      LOAD(nr),
      IF_EQUAL(__NR_openat, 11, 0),
      IF_EQUAL(__NR_access, 10, 0),
      IF_EQUAL(__NR_faccessat, 9, 0),
      IF_EQUAL(__NR_faccessat2, 8, 0),
      IF_EQUAL(__NR_ioctl, 0, 6),
      LOAD(args[1]),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
      IF_EQUAL(0xA200, 4, 0),
      LOAD(args[1]),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xffffff00),
      IF_EQUAL(0x43000000, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
  };
  struct sock_fprog filter = {sizeof program / sizeof *program, program};
  // A call that we have begun is not broken off by a signal and begun anew: CREATE_VM must not happen twice.
  unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  return (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
}

static int send_fd(int socket, int fd) {
  char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket, &message, 0) == 1 ? 0 : -1;
}

static int receive_fd(int socket) {
  char byte, control[CMSG_SPACE(sizeof(int))];
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) <= 0 || CMSG_FIRSTHDR(&message) == NULL) return -1;
  int fd;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

static void become(char **command, int socket) {
  char byte;
  // Without us its system calls would fail in strange ways.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  int fd = install_filter();
  if (fd < 0) {
    perror("standin: seccomp");
    _exit(126);
  }
  if (send_fd(socket, fd) < 0 || read(socket, &byte, 1) != 1) _exit(126);
  close(fd);
  close(socket);
  execvp(command[0], command);
  fprintf(stderr, "standin: %s: %s\n", command[0], strerror(errno));
  _exit(127);
}

/** Makes the program's process, behind the filter. It waits for start_child. @return 0, or -1 when it cannot be filtered */
int spawn_filtered(char **command, pid_t *child) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) die("socketpair");
  *child = fork();
  if (*child < 0) die("fork");
  if (*child == 0) become(command, ends[1]);
  close(ends[1]);
  listener = receive_fd(ends[0]);
  if (listener < 0) return -1;
  // Hands over the core with the call: three times as fast. Kernels before 6.6 do not know it.
  ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
  starter = ends[0];
  return 0;
}

void start_child(void) {
  if (write(starter, "", 1) != 1) SAY("the program died before it started\n");
}

/** ENOENT: the thread was killed in the meantime. */
void answer(uint64_t id, long result) {
  struct seccomp_notif_resp response = {.id = id, .val = result < 0 ? 0 : result, .error = result < 0 ? (int)result : 0};
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0 && errno != ENOENT) perror("standin: answer");
}

static void go_on(uint64_t id) {
  struct seccomp_notif_resp response = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0 && errno != ENOENT) perror("standin: continue");
}

/** False when the thread was killed. */
bool still_waits(uint64_t id) { return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0; }

/** Our own descriptor for a descriptor of the caller. */
int file_of_call(const struct call *call, int fd) {
  int process = (int)syscall(__NR_pidfd_open, process_of(call->tid), 0);
  if (process < 0) return -1;
  int ours = (int)syscall(__NR_pidfd_getfd, process, fd, 0);
  close(process);
  return ours;
}

/** Reads the path of a call. Memory that ends before the path does gives what there is. */
static void read_path(pid_t tid, uint64_t address, char path[PATH_SIZE]) {
  memset(path, 0, PATH_SIZE);
  // In two pieces, so that a path at the end of a page can be read.
  uint64_t first = PAGE - address % PAGE;
  if (first > PATH_SIZE - 1) first = PATH_SIZE - 1;
  struct iovec local = {path, PATH_SIZE - 1};
  struct iovec remote[2] = {{(void *)address, first}, {(void *)(address + first), PATH_SIZE - 1 - first}};
  if (process_vm_readv(tid, &local, 1, remote, 2, 0) < 0) path[0] = '\0';
}

static const struct abi *abi_of_path(const char *path) {
  if (options.hsm && strcmp(path, hsm_abi.path) == 0) return &hsm_abi;
  if (options.vhm && strcmp(path, vhm_abi.path) == 0) return &vhm_abi;
  return NULL;
}

/** Answers an open with one end of a socket pair; the other end tells us when the last copy of it is closed. */
static void open_device(const struct seccomp_notif *notification, const struct abi *abi) {
  int ends[2];
  struct stat status;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
    answer(notification->id, -errno);
    return;
  }
  fstat(ends[1], &status);
  pthread_mutex_lock(&files_lock);
  struct vm *vm = abi == NULL ? NULL : open_file(abi, ends[0], status.st_ino);
  struct seccomp_notif_addfd add = {
      .id = notification->id,
      .srcfd = (uint32_t)ends[1],
      .flags = SECCOMP_ADDFD_FLAG_SEND,
      .newfd_flags = (uint32_t)notification->data.args[2] & O_CLOEXEC,
  };
  // Fails when the caller was killed; the hang-up then comes at once.
  ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
  close(ends[1]);
  if (vm != NULL) watch_file(vm);
  else watch_control(ends[0]);
  pthread_mutex_unlock(&files_lock);
}

static void path_call(const struct seccomp_notif *notification) {
  const struct seccomp_data *data = &notification->data;
  char path[PATH_SIZE];
  read_path((pid_t)notification->pid, data->nr == __NR_access ? data->args[0] : data->args[1], path);
  const struct abi *abi = abi_of_path(path);
  if (abi == NULL && strcmp(path, CONTROL_PATH) != 0) go_on(notification->id);
  else if (data->nr == __NR_openat) open_device(notification, abi);
  else answer(notification->id, 0);
}

/** The opened file that a descriptor of the caller is, if it is one of ours. With files_lock. */
static struct vm *file_of(pid_t tid, int fd) {
  char path[64];
  struct stat status;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", tid, fd);
  return stat(path, &status) < 0 ? NULL : file_by_inode(status.st_ino);
}

static const struct ioctl_entry *entry_of(const struct abi *abi, uint32_t cmd) {
  for (const struct ioctl_entry *entry = abi->ioctls; entry->run != NULL; entry++)
    if (entry->cmd == cmd) return entry;
  return NULL;
}

static long run_ioctl(struct vm *vm, const struct call *call) {
  const struct abi *abi = vm->abi;
  const struct ioctl_entry *entry = entry_of(abi, call->cmd);
  const char *name = entry == NULL ? "unknown" : entry->name;
  long result = fault_for(name);
  if (result == 0) {
    bool no_vm = vm->vmid == INVALID_VMID || vm->destroyed;
    if (no_vm && (entry == NULL || !entry->without_vm || (vm->destroyed && abi == &vhm_abi))) result = abi->no_vm;
    else result = entry == NULL ? abi->unknown : entry->run(vm, call);
  }
  count_ioctl(name, result);
  SAY("vm %d %s(%#lx) = %ld\n", vm->vmid == INVALID_VMID ? -1 : (int)vm->vmid, name, (unsigned long)call->arg, result == LATER ? 0 : result);
  return result;
}

static void ioctl_call(const struct seccomp_notif *notification) {
  const struct seccomp_data *data = &notification->data;
  struct call call = {.id = notification->id, .tid = (pid_t)notification->pid, .cmd = (uint32_t)data->args[1], .arg = data->args[2]};
  pthread_mutex_lock(&files_lock);
  struct vm *vm = file_of(call.tid, (int)data->args[0]);
  long result = vm == NULL ? 0 : run_ioctl(vm, &call);
  pthread_mutex_unlock(&files_lock);
  if (vm == NULL) go_on(call.id);
  else if (result != LATER) answer(call.id, result);
}

/** Until the last process behind the filter is gone. */
void serve_calls(void) {
  for (;;) {
    struct seccomp_notif notification = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notification) < 0) {
      // ENOENT: the caller died, or no one is left.
      if (errno != ENOENT && errno != EINTR) die("SECCOMP_IOCTL_NOTIF_RECV");
      struct pollfd left = {.fd = listener, .events = POLLIN};
      if (poll(&left, 1, 0) > 0 && (left.revents & POLLHUP) != 0) return;
      continue;
    }
    if (notification.data.nr == __NR_ioctl) ioctl_call(&notification);
    else path_call(&notification);
  }
}
