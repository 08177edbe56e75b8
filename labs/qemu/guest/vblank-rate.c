/*
 * vblank-rate: waits for COUNT vertical blanks of the first CRTC one after the other (DRM_IOCTL_WAIT_VBLANK) and prints `vblank COUNT WAITED
 * NANOSECONDS WALL`: how far the counter went, how many waits that took, the time between the first and the last by their stamps, and by
 * the clock. Numbers: the kernel's uapi, drm.h.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "say.h"

#define RELATIVE 1u
struct request {
	uint32_t type, sequence;
	unsigned long signal;
};
struct reply {
	uint32_t type, sequence;
	long seconds, microseconds;
};
union wait {
	struct request request;
	struct reply reply;
};
#define WAIT_VBLANK _IOWR('d', 0x3a, union wait)

static int card;

static struct reply next_blank(void)
{
	union wait wait = { .request = { .type = RELATIVE, .sequence = 1 } };

	if (ioctl(card, WAIT_VBLANK, &wait) != 0)
		give_up("WAIT_VBLANK");
	return wait.reply;
}

static long long nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

int main(int argc, char **argv)
{
	uint32_t wanted = argc == 2 ? atoi(argv[1]) : 0, waited = 0;

	if (wanted == 0)
		give_up("the number of blanks is missing");
	card = open("/dev/dri/card0", O_RDWR);
	if (card < 0)
		give_up("/dev/dri/card0 does not open");
	struct reply first = next_blank(), last = first;
	long long began = nanoseconds();
	for (; last.sequence - first.sequence < wanted; waited++)
		last = next_blank();
	long long stamps = (last.seconds - first.seconds) * 1000000000ll + (last.microseconds - first.microseconds) * 1000ll;
	printf("vblank %u %u %lld %lld\n", last.sequence - first.sequence, waited, stamps, nanoseconds() - began);
	return 0;
}
