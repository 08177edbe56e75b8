/* vfio-user messages over an AF_UNIX stream socket, as far as the benchmarks send them (QEMU: docs/interop/vfio-user.rst). */
#ifndef MESSAGES_H
#define MESSAGES_H
#include <stddef.h>
#include <stdint.h>

struct header {
  uint16_t id, command;
  uint32_t size, flags, error;
};

/* REGION_READ and REGION_WRITE; what is written follows, in a reply what was read. */
struct access {
  struct header header;
  uint64_t offset;
  uint32_t region, count;
};

/* One entry of REGION_WRITE_MULTI. */
struct entry {
  uint64_t offset;
  uint32_t region, count;
  uint64_t data;
};

enum { VERSION = 1, REGION_READ = 9, REGION_WRITE = 10, REGION_WRITE_MULTI = 15 };
enum { REPLY = 1, TYPE = 0xf, NO_REPLY = 0x10, ERROR = 0x20 };
enum { DATA_MAX = 4096, ENTRIES_MAX = 200, BURST = 200 };

/* Sends all of it by one call; ends the program when the other side is gone. */
void send_all(int fd, const void *data, size_t length);

/* Receives exactly so many bytes; ends the program when the stream ends before. */
void receive_all(int fd, void *data, size_t length);

#endif
