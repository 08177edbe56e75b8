/* A domain's memory in this process: foreign mappings of 1 MiB, made when they are first needed and kept. */
#ifndef MEMORY_H
#define MEMORY_H
#include <stddef.h>
#include <stdint.h>

void memory_read(uint32_t domid, uint64_t gpa, void *target, size_t length);
void memory_write(uint32_t domid, uint64_t gpa, const void *source, size_t length);

#endif
