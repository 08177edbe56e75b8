/*
 * low-taken.so, to be preloaded: before the first batch of a process it takes the lowest 256 KiB of its DRM client's address space, by a
 * batch of its own with an object that is pinned there.
 *
 * i915 moves a batch that has relocations out of these 256 KiB (BATCH_OFFSET_BIAS), and then relocates. Debian 12's gem_busy counts on
 * nothing being moved: its relocations name their targets by handle where its flags say by index, and i915 answers ENOENT, on any machine
 * where an address space begins empty.
 */
#include <stdarg.h>

#include "i915-uapi.h"

#define GEM_EXECBUFFER_WR COMMAND(_IOWR, 0x29, struct gem_execbuffer)
#define LOW_BYTES 0x40000u
#define BATCH_AT 0x100000u
#define BATCH_END 0x05000000u
#define SYS_IOCTL 16l
#define ERRNO_MAX 4095

extern int *__errno_location(void);

/* The ioctl of the kernel: that of the C library is what is replaced here. */
static long call(long fd, unsigned long request, void *argument)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_IOCTL), "D"(fd), "S"(request), "d"(argument) : "rcx", "r11", "memory");
	return result;
}

static void take(int fd)
{
	static const uint32_t commands[2] = { BATCH_END };
	struct gem_create low = { .size = LOW_BYTES }, batch = { .size = 4096 };

	if (call(fd, GEM_CREATE, &low) != 0 || call(fd, GEM_CREATE, &batch) != 0)
		return;
	struct gem_rw content = { .handle = batch.handle, .size = sizeof(commands), .data = (uintptr_t)commands };
	struct gem_object objects[2] = {
		{ .handle = low.handle, .flags = OBJECT_PINNED },
		{ .handle = batch.handle, .flags = OBJECT_PINNED, .offset = BATCH_AT },
	};
	struct gem_execbuffer run = { .objects = (uintptr_t)objects, .count = 2, .batch_length = sizeof(commands) };
	if (call(fd, GEM_PWRITE, &content) == 0)
		call(fd, GEM_EXECBUFFER, &run);
}

int ioctl(int fd, unsigned long request, ...)
{
	static int taken;
	va_list arguments;

	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	if (!taken && (request == GEM_EXECBUFFER || request == GEM_EXECBUFFER_WR)) {
		taken = 1;
		take(fd);
	}
	long result = call(fd, request, argument);
	if (result >= 0 || result < -ERRNO_MAX)
		return result;
	*__errno_location() = -result;
	return -1;
}
