/* Subjects by name: each prepares itself from its arguments and gives what answers counts. */
#ifndef SUBJECTS_H
#define SUBJECTS_H
#include <stdint.h>

typedef uint64_t sample_fn(uint32_t count);

sample_fn *exits(char **args);
sample_fn *copies(char **args);
sample_fn *page_track(char **args);
sample_fn *msi(char **args);
sample_fn *dma(char **args);
sample_fn *create(char **args);

#endif
