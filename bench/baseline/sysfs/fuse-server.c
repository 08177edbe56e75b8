/*
 * fuse-server MOUNT: the least that serves the two attributes of the benchmark from /dev/fuse: a table of names, one thread, blocking reads.
 * It has the same choices as the tree: FOPEN_DIRECT_IO; the kernel remembers names that stay, but not a vGPU's, and of all nodes attributes and where
 * links lead.
 */
#include "../subject.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define UUID "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

static const struct node {
  unsigned parent;
  const char *name;
  const char *text, *link;
  int lasting;
} nodes[] = {
    {0}, {1, "", 0, 0, 1},
    {1, "class", 0, 0, 1}, {2, "mdev_bus", 0, 0, 1}, {3, "mdpy", 0, 0, 1},
    {4, "mdev_supported_types", 0, 0, 1}, {5, "mdpy-xga", 0, 0, 1}, {6, "available_instances", "3\n", 0, 1},
    {4, UUID, 0, 0, 0}, {8, "weight", "1\n", 0, 1},
    {1, "bus", 0, 0, 1}, {10, "mdev", 0, 0, 1}, {11, "devices", 0, 0, 1},
    {12, UUID, 0, "../../../class/mdev_bus/mdpy/" UUID, 0},
};
enum { NODES = sizeof nodes / sizeof *nodes };

static const char *mount_point;
static int device;
static char request[1 << 17];

static void ended(int signal) {
  (void)signal;
  umount2(mount_point, MNT_DETACH);
  _exit(0);
}

static void reply(uint64_t unique, int error, const void *payload, size_t length) {
  struct fuse_out_header head = {.len = (uint32_t)(sizeof head + length), .error = -error, .unique = unique};
  struct iovec parts[] = {{&head, sizeof head}, {(void *)payload, length}};
  if (writev(device, parts, 2) < 0 && errno != ENOENT) die("the reply is refused");
}

static void attributes(unsigned id, struct fuse_attr *attr) {
  const struct node *node = &nodes[id];
  attr->ino = id;
  attr->size = node->link ? strlen(node->link) : node->text ? 4096 : 0;
  attr->mode = node->link ? S_IFLNK | 0777 : node->text ? S_IFREG | 0444 : S_IFDIR | 0755;
  attr->nlink = 1;
}

static void answer(void) {
  const struct fuse_in_header *in = (const void *)request;
  const void *body = in + 1;
  unsigned id = (unsigned)in->nodeid;
  switch (in->opcode) {
  case FUSE_INIT: {
    const struct fuse_init_in *init = body;
    struct fuse_init_out out = {.major = 7, .minor = init->minor < 38 ? init->minor : 38, .max_readahead = init->max_readahead, .flags = FUSE_CACHE_SYMLINKS, .max_background = 16, .congestion_threshold = 12, .max_write = 4096, .time_gran = 1};
    return reply(in->unique, 0, &out, sizeof out);
  }
  case FUSE_LOOKUP:
    for (unsigned i = 2; i < NODES; i++)
      if (nodes[i].parent == id && strcmp(nodes[i].name, body) == 0) {
        struct fuse_entry_out out = {.nodeid = i, .entry_valid = nodes[i].lasting ? 3600 : 0, .attr_valid = 3600};
        attributes(i, &out.attr);
        return reply(in->unique, 0, &out, sizeof out);
      }
    return reply(in->unique, ENOENT, NULL, 0);
  case FUSE_GETATTR: {
    struct fuse_attr_out out = {.attr_valid = 3600};
    attributes(id, &out.attr);
    return reply(in->unique, 0, &out, sizeof out);
  }
  case FUSE_READLINK: return reply(in->unique, 0, nodes[id].link, strlen(nodes[id].link));
  case FUSE_OPEN: {
    struct fuse_open_out out = {.fh = 1, .open_flags = FOPEN_DIRECT_IO};
    return reply(in->unique, 0, &out, sizeof out);
  }
  case FUSE_READ: {
    size_t length = ((const struct fuse_read_in *)body)->offset == 0 ? strlen(nodes[id].text) : 0;
    return reply(in->unique, 0, nodes[id].text, length);
  }
  case FUSE_RELEASE: return reply(in->unique, 0, NULL, 0);
  case FUSE_FORGET:
  case FUSE_BATCH_FORGET:
  case FUSE_INTERRUPT: return;
  default: return reply(in->unique, ENOSYS, NULL, 0);
  }
}

int main(int argc, char **argv) {
  if (argc != 2) die("usage: fuse-server MOUNT");
  mount_point = argv[1];
  char options[128];
  device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions", device);
  if (device < 0 || mount("bench", mount_point, "fuse.bench", MS_NOSUID | MS_NODEV, options) != 0) die("%s cannot be mounted on", mount_point);
  signal(SIGTERM, ended);
  while (read(device, request, sizeof request) > 0 || errno == ENOENT || errno == EINTR) answer();
  return 0;
}
