#define _GNU_SOURCE
#include "tap.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int points, failures;

static void point(bool passed, const char *format, va_list args) {
  if (!passed) failures++;
  printf("%s %d - ", passed ? "ok" : "not ok", ++points);
  vprintf(format, args);
}

bool check(bool passed, const char *format, ...) {
  va_list args;
  va_start(args, format);
  point(passed, format, args);
  va_end(args);
  putchar('\n');
  fflush(stdout);
  return passed;
}

static const char *named(long value) {
  static char texts[2][48];
  static int turn;
  char *text = texts[turn ^= 1];
  if (value < 0) snprintf(text, sizeof texts[0], "%s", strerrorname_np((int)-value));
  else snprintf(text, sizeof texts[0], "%ld", value);
  return text;
}

bool gives(long got, long wanted, const char *format, ...) {
  va_list args;
  va_start(args, format);
  point(got == wanted, format, args);
  va_end(args);
  printf(": %s", named(wanted));
  if (got != wanted) printf(", not %s", named(got));
  putchar('\n');
  fflush(stdout);
  return got == wanted;
}

int done(void) {
  printf("1..%d\n", points);
  return failures == 0 ? 0 : 1;
}
