/*
 * client read|write|posted|multi REGION OFFSET BYTES [place-bar] -- SERVER...: starts a vfio-user server, in whose arguments SOCKET stands
 * for the path, connects and measures accesses. A count is a number of accesses.
 *
 * read, write: a round trip each. posted: writes without replies, one send each as QEMU does it. burst: the same, 200 messages a send, so
 * that the time is the server's. multi: writes of BYTES in messages of 200 entries. The last three end with one read, whose answer tells
 * that all were carried out; it is in the time.
 * place-bar: BAR0 is placed and memory space enabled before, for a device that answers only then.
 */
#include "../subject.h"
#include "messages.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 20000, CONFIG = 7, BAR0 = 0x10, COMMAND = 0x04, MEMORY_MASTER = 6, BAR = 0xc0000000 };

static char folder[] = "/tmp/mpt-bench-XXXXXX", path[64];
static pid_t server;
static int connection = -1;
static uint32_t region, bytes;
static uint64_t offset;
static uint16_t id;

static struct {
  struct access access;
  uint8_t data[DATA_MAX];
} out, in;

static struct {
  struct header header;
  uint64_t count;
  struct entry entries[ENTRIES_MAX];
} many;

/* Only what a signal handler may call. */
static void end_server(void) {
  if (server > 0) {
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
  }
  unlink(path);
  rmdir(folder);
}

static void interrupted(int signal) {
  (void)signal;
  end_server();
  _exit(1);
}

static void start_server(char **command) {
  if (mkdtemp(folder) == NULL) die("no folder for the socket");
  snprintf(path, sizeof path, "%s/s", folder);
  atexit(end_server);
  signal(SIGTERM, interrupted);
  for (char **argument = command; *argument != NULL; argument++)
    if (strcmp(*argument, "SOCKET") == 0) *argument = path;
  server = fork();
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    /* Its stdout is not ours, whose lines are answers; ours on stdin are not for it. */
    if (freopen("/dev/null", "r", stdin) == NULL || freopen("/dev/null", "w", stdout) == NULL) _exit(127);
    execvp(command[0], command);
    _exit(127);
  }
}

static void connect_server(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, path, strlen(path) + 1);
  connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  for (int waited = 0; connect(connection, (struct sockaddr *)&address, sizeof address) != 0; waited += 10) {
    if (waitpid(server, NULL, WNOHANG) != 0) {
      server = 0;
      die("the server ended before it could be reached");
    }
    if (waited > START_MS) die("the server does not listen: %s", strerror(errno));
    usleep(10000);
  }
}

/* Sends a request whose body is there, and takes its reply of `expected` bytes into `in`. */
static void round_trip(struct header *header, uint16_t command, size_t size, size_t expected) {
  header->id = ++id;
  header->command = command;
  header->size = (uint32_t)size;
  header->flags = 0;
  send_all(connection, header, size);
  receive_all(connection, &in, sizeof in.access.header);
  const struct header *reply = &in.access.header;
  if (reply->id != id || (reply->flags & TYPE) != REPLY || reply->size > sizeof in) die("not the reply to command %u", command);
  receive_all(connection, (char *)&in + sizeof *reply, reply->size - sizeof *reply);
  if ((reply->flags & ERROR) != 0) die("the server refused command %u: %s", command, strerror((int)reply->error));
  if (expected != 0 && reply->size != expected) die("the reply to command %u has %u bytes", command, reply->size);
}

static void agree(void) {
  static const char json[] = "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"write_multiple\":true}}";
  uint16_t *version = (uint16_t *)(&out.access.header + 1);
  version[0] = version[1] = 0;
  memcpy(version + 2, json, sizeof json);
  round_trip(&out.access.header, VERSION, sizeof out.access.header + 4 + sizeof json, 0);
}

static void access_fields(uint64_t at, uint32_t where, uint32_t count) {
  out.access.offset = at;
  out.access.region = where;
  out.access.count = count;
}

static void read_once(void) {
  access_fields(offset, region, bytes);
  /* The reply, whose length is known, by one call: as little as can be between the server and the next request. */
  struct header *header = &out.access.header;
  header->id = ++id;
  header->command = REGION_READ;
  header->size = sizeof out.access;
  header->flags = 0;
  send_all(connection, header, sizeof out.access);
  receive_all(connection, &in, sizeof in.access + bytes);
  if (in.access.header.id != id || in.access.header.flags != REPLY || in.access.count != bytes) die("the server refused a read");
}

static uint64_t reads(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) read_once();
  return now_ns() - start;
}

static uint64_t writes(uint32_t count) {
  access_fields(offset, region, bytes);
  struct header *header = &out.access.header;
  header->command = REGION_WRITE;
  header->size = (uint32_t)(sizeof out.access + bytes);
  header->flags = 0;
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    header->id = ++id;
    memcpy(out.data, &i, sizeof i);
    send_all(connection, header, sizeof out.access + bytes);
    receive_all(connection, &in, sizeof in.access);
    if (in.access.header.id != id || in.access.header.flags != REPLY) die("the server refused a write");
  }
  return now_ns() - start;
}

/* What was written last is there: nothing was left out at the end. */
static void check_last(uint32_t last) {
  read_once();
  if (memcmp(in.data, &last, bytes < sizeof last ? bytes : sizeof last) != 0) die("the last write did not arrive");
}

static uint64_t posted(uint32_t count) {
  access_fields(offset, region, bytes);
  struct header *header = &out.access.header;
  header->command = REGION_WRITE;
  header->size = (uint32_t)(sizeof out.access + bytes);
  header->flags = NO_REPLY;
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    header->id = ++id;
    memcpy(out.data, &i, sizeof i);
    send_all(connection, header, sizeof out.access + bytes);
  }
  check_last(count - 1);
  return now_ns() - start;
}

static uint64_t burst(uint32_t count) {
  static struct {
    struct access access;
    uint32_t data;
    /* The next message follows at once: a struct of 8-byte alignment would leave a gap. */
  } __attribute__((packed)) messages[BURST];
  if (bytes != sizeof messages[0].data) die("a burst is of 4 bytes each");
  for (size_t i = 0; i < BURST; i++) {
    messages[i].access = (struct access){{0, REGION_WRITE, sizeof messages[0], NO_REPLY, 0}, offset, region, bytes};
  }
  uint64_t start = now_ns();
  for (uint32_t done = 0; done < count;) {
    uint32_t n = count - done < BURST ? count - done : BURST;
    for (uint32_t i = 0; i < n; i++) {
      messages[i].access.header.id = ++id;
      messages[i].data = done++;
    }
    send_all(connection, messages, n * sizeof messages[0]);
  }
  check_last(count - 1);
  return now_ns() - start;
}

static uint64_t multi(uint32_t count) {
  for (size_t i = 0; i < ENTRIES_MAX; i++) many.entries[i] = (struct entry){offset, region, bytes, 0};
  many.header.command = REGION_WRITE_MULTI;
  many.header.flags = NO_REPLY;
  uint64_t start = now_ns();
  for (uint32_t done = 0; done < count;) {
    uint32_t n = count - done < ENTRIES_MAX ? count - done : ENTRIES_MAX;
    for (uint32_t i = 0; i < n; i++) many.entries[i].data = done++;
    many.count = n;
    many.header.id = ++id;
    many.header.size = (uint32_t)(offsetof(__typeof__(many), entries) + n * sizeof many.entries[0]);
    send_all(connection, &many, many.header.size);
  }
  check_last(count - 1);
  return now_ns() - start;
}

static void config_write(uint64_t at, uint32_t value, uint32_t size) {
  access_fields(at, CONFIG, size);
  memcpy(out.data, &value, size);
  round_trip(&out.access.header, REGION_WRITE, sizeof out.access + size, sizeof out.access);
}

static void place_bar(void) {
  config_write(BAR0, BAR, 4);
  config_write(BAR0 + 4, 0, 4);
  config_write(COMMAND, MEMORY_MASTER, 2);
}

static const struct {
  const char *name;
  uint64_t (*sample)(uint32_t count);
} SUBJECTS[] = {{"read", reads}, {"write", writes}, {"posted", posted}, {"burst", burst}, {"multi", multi}};

int main(int argc, char **argv) {
  int at = 5;
  int places = argc > at && strcmp(argv[at], "place-bar") == 0;
  at += places;
  if (argc < at + 2 || strcmp(argv[at], "--") != 0) die("usage: client SUBJECT REGION OFFSET BYTES [place-bar] -- SERVER...");
  region = (uint32_t)strtoul(argv[2], NULL, 0);
  offset = strtoull(argv[3], NULL, 0);
  bytes = (uint32_t)strtoul(argv[4], NULL, 0);
  if (bytes < 4 || bytes > (strcmp(argv[1], "multi") == 0 ? 8 : DATA_MAX)) die("an access of %u bytes is not measured", bytes);
  for (size_t i = 0; i < sizeof SUBJECTS / sizeof SUBJECTS[0]; i++)
    if (strcmp(argv[1], SUBJECTS[i].name) == 0) {
      start_server(argv + at + 1);
      connect_server();
      agree();
      if (places) place_bar();
      serve(SUBJECTS[i].sample);
      return 0;
    }
  die("no subject is called '%s'", argv[1]);
}
