#include "subject.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void die(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  exit(1);
}

void report(uint64_t ns) {
  printf("{\"ns\":%" PRIu64 "}\n", ns);
  fflush(stdout);
}

void serve(uint64_t (*sample)(uint32_t count)) {
  char line[32];
  while (fgets(line, sizeof line, stdin) != NULL) report(sample((uint32_t)strtoul(line, NULL, 10)));
}
