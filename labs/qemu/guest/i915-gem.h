/* How the guest programs use i915's interface. */
#ifndef I915_GEM_H
#define I915_GEM_H

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "i915-uapi.h"
#include "say.h"

/* Engines of an execbuffer. */
enum { RCS = 1, VCS = 2, BCS = 3, VECS = 4 };

static const struct {
	const char *name;
	int engine;
} engines[] = { { "rcs0", RCS }, { "bcs0", BCS }, { "vcs0", VCS }, { "vecs0", VECS } };

static int card;

static int command(unsigned long request, void *argument)
{
	int rc;
	do
		rc = ioctl(card, request, argument);
	while (rc != 0 && (errno == EINTR || errno == EAGAIN));
	return rc;
}

static uint32_t create(uint64_t size)
{
	struct gem_create object = { .size = size };
	if (command(GEM_CREATE, &object) != 0)
		give_up("GEM_CREATE of %llu bytes", (unsigned long long)size);
	return object.handle;
}

static void put(uint32_t handle, uint64_t offset, const void *data, uint64_t size)
{
	struct gem_rw range = { .handle = handle, .offset = offset, .size = size, .data = (uintptr_t)data };
	if (command(GEM_PWRITE, &range) != 0)
		give_up("GEM_PWRITE");
}

static void get(uint32_t handle, uint64_t offset, void *data, uint64_t size)
{
	struct gem_rw range = { .handle = handle, .offset = offset, .size = size, .data = (uintptr_t)data };
	if (command(GEM_PREAD, &range) != 0)
		give_up("GEM_PREAD");
}

static uint32_t create_context(void)
{
	struct gem_context context = { 0 };
	if (command(GEM_CONTEXT_CREATE, &context) != 0)
		give_up("GEM_CONTEXT_CREATE");
	return context.id;
}

static struct gem_object at(uint32_t handle, uint64_t address, uint64_t flags)
{
	return (struct gem_object){ .handle = handle, .offset = address, .flags = flags | OBJECT_48_BITS | OBJECT_PINNED };
}

/* The batch is the last object. Returns 0, or the error's number. */
static int execute(struct gem_object *objects, int count, int engine, uint32_t context)
{
	struct gem_execbuffer exec = { .objects = (uintptr_t)objects, .count = count, .flags = engine, .context = context };
	return command(GEM_EXECBUFFER, &exec) == 0 ? 0 : errno;
}

/* Returns 0 when the object is idle, or ETIME. */
static int wait_for(uint32_t handle, double seconds)
{
	struct gem_wait wait = { .handle = handle, .timeout_ns = (int64_t)(seconds * 1e9) };
	return command(GEM_WAIT, &wait) == 0 ? 0 : errno;
}

static inline double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static inline void open_card(void)
{
	card = open("/dev/dri/renderD128", O_RDWR | O_CLOEXEC);
	if (card < 0)
		give_up("/dev/dri/renderD128");
}

#define MI_BATCH_BUFFER_END (0x0au << 23)
#define MI_SEMAPHORE_WAIT (0x1cu << 23 | 1u << 15 | 4u << 12 | 2)
#define MI_STORE_DATA_IMM (0x20u << 23 | 2)
#define MI_LOAD_REGISTER_IMM (0x22u << 23 | 1)
/* In the context's own address space. */
#define MI_BATCH_BUFFER_START (0x31u << 23 | 1u << 8 | 1)

#endif
