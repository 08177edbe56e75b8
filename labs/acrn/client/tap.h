/* TAP for the checks of the stand-in. */
#ifndef TAP_H
#define TAP_H
#include <stdbool.h>

/** One point. */
bool check(bool passed, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** One point: a call gave what it must give; a failure is -errno. */
bool gives(long got, long wanted, const char *format, ...) __attribute__((format(printf, 3, 4)));
/** @return the exit code */
int done(void);
#endif
