/*
 * ping-pong round-trip REQUEST REPLY: a message of so many bytes to another process and one back, over a socketpair.
 * ping-pong stream REQUEST BATCH: messages that nobody answers, BATCH a send; what is left at the end is waited for by one round trip.
 * The other side looks at nothing but how many bytes there are.
 */
#include "../subject.h"
#include "messages.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 1 << 21, MARK = 1 };

static char buffer[ROOM];
volatile uint32_t written;
static size_t request, reply, batch = 1;
static int connection;

static uint64_t round_trips(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    send_all(connection, buffer, request);
    receive_all(connection, buffer, reply);
  }
  return now_ns() - start;
}

static void answer(int fd) {
  for (;;) {
    receive_all(fd, buffer, request);
    send_all(fd, buffer, reply);
  }
}

static uint64_t stream(uint32_t count) {
  uint64_t start = now_ns();
  memset(buffer, 0, request * batch);
  for (uint32_t left = count; left > 0;) {
    size_t n = left < batch ? left : batch;
    left -= (uint32_t)n;
    /* The first byte of the last message asks for the answer. */
    if (left == 0) buffer[(n - 1) * request] = MARK;
    send_all(connection, buffer, n * request);
  }
  receive_all(connection, buffer, 1);
  return now_ns() - start;
}

/* Takes what there is, and copies each message's last four bytes, as a register array would. */
static void swallow(int fd) {
  for (size_t filled = 0;;) {
    ssize_t got = recv(fd, buffer + filled, ROOM - filled, 0);
    if (got <= 0) exit(0);
    filled += (size_t)got;
    size_t at = 0;
    for (; at + request <= filled; at += request) {
      uint32_t value;
      memcpy(&value, buffer + at + request - 4, 4);
      written = value;
      if (buffer[at] == MARK) send_all(fd, buffer, 1);
    }
    memmove(buffer, buffer + at, filled - at);
    filled -= at;
  }
}

int main(int argc, char **argv) {
  if (argc != 4) die("usage: ping-pong round-trip REQUEST REPLY | stream REQUEST BATCH");
  int streaming = strcmp(argv[1], "stream") == 0;
  request = strtoul(argv[2], NULL, 10);
  *(streaming ? &batch : &reply) = strtoul(argv[3], NULL, 10);
  if (request < 4 || batch == 0 || request * batch > ROOM / 2 || reply > ROOM) die("too small or too large");
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) die("no socketpair");
  connection = pair[0];
  if (fork() == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(pair[0]);
    /* Ends with its parent, without a word. */
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(1);
    if (streaming) swallow(pair[1]);
    answer(pair[1]);
  }
  close(pair[1]);
  serve(streaming ? stream : round_trips);
  return 0;
}
