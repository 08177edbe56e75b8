/* The test pattern: picture.ts has the same formula. */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdint.h>

/* A pixel as 0x00RRGGBB. */
static inline uint32_t pattern_pixel(uint32_t x, uint32_t y)
{
	uint32_t v = x * 0x00010dcdu + y * 0x3c6ef35fu;

	v = (v ^ (v >> 13)) * 0x2545f491u;
	return v >> 8;
}

#endif
