/* client hsm|vhm [CYCLES]: what the stand-in must do and refuse, as TAP. Under the stand-in, with that device. */
#include "cases.h"
#include "tap.h"
#include <stdio.h>
#include <unistd.h>

/** All take a second together; a check that blocks must not block the lab. */
#define LIMIT_S 30

static void (*const subjects[])(const char *abi) = {
    check_devices,  check_states,  check_structures, check_memory,   check_requests, check_tracking,
    check_clients, check_interrupts, check_eventfds, check_deaths, check_faults,
};

int main(int count, char **arguments) {
  if (count != 2) {
    fputs("usage: client hsm|vhm\n", stderr);
    return 2;
  }
  alarm(LIMIT_S);
  puts("TAP version 14");
  for (unsigned i = 0; i < sizeof subjects / sizeof *subjects; i++) subjects[i](arguments[1]);
  return done();
}
