/* The line protocol of every baseline: a count on stdin, one JSON line on stdout. */
#ifndef SUBJECT_H
#define SUBJECT_H
#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds, the clock of Node's process.hrtime. */
uint64_t now_ns(void);

/* Ends the program with one line on stderr. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

/* Prints {"ns":...}, the answer to one count. */
void report(uint64_t ns);

/* Calls `sample` with each count that stdin gives and reports what it returns, until stdin ends. */
void serve(uint64_t (*sample)(uint32_t count));

#endif
