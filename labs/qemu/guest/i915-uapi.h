/* Layouts and numbers of what the guest programs use of i915's interface (the kernel's uapi), since Debian's libc headers leave drm out. */
#ifndef I915_UAPI_H
#define I915_UAPI_H

#include <stdint.h>
#include <sys/ioctl.h>

#define COMMAND(direction, number, type) direction('d', 0x40 + (number), type)

struct gem_create {
	uint64_t size;
	uint32_t handle, pad;
};
struct gem_rw {
	uint32_t handle, pad;
	uint64_t offset, size, data;
};
struct gem_mmap {
	uint32_t handle, pad;
	uint64_t offset, size, address, flags;
};
struct gem_busy {
	uint32_t handle, busy;
};
struct gem_wait {
	uint32_t handle, flags;
	int64_t timeout_ns;
};
struct gem_context {
	uint32_t id, pad;
};
struct gem_object {
	uint32_t handle, relocation_count;
	uint64_t relocations, alignment, offset, flags, reserved[2];
};
struct gem_execbuffer {
	uint64_t objects;
	uint32_t count, batch_start, batch_length, dr[2], cliprect_count;
	uint64_t cliprects, flags, context, reserved;
};
struct gem_reset_stats {
	uint32_t context, flags, reset_count, batch_active, batch_pending, pad;
};

#define GEM_BUSY COMMAND(_IOWR, 0x17, struct gem_busy)
#define GEM_CREATE COMMAND(_IOWR, 0x1b, struct gem_create)
#define GEM_PREAD COMMAND(_IOW, 0x1c, struct gem_rw)
#define GEM_PWRITE COMMAND(_IOW, 0x1d, struct gem_rw)
#define GEM_MMAP COMMAND(_IOWR, 0x1e, struct gem_mmap)
#define GEM_EXECBUFFER COMMAND(_IOW, 0x29, struct gem_execbuffer)
#define GEM_WAIT COMMAND(_IOWR, 0x2c, struct gem_wait)
#define GEM_CONTEXT_CREATE COMMAND(_IOWR, 0x2d, struct gem_context)
#define GEM_CONTEXT_DESTROY COMMAND(_IOW, 0x2e, struct gem_context)
#define GEM_RESET_STATS COMMAND(_IOWR, 0x32, struct gem_reset_stats)

/* Object flags: written by the batch, address above 4 GiB allowed, address chosen by the program. */
#define OBJECT_WRITE (1u << 2)
#define OBJECT_48_BITS (1u << 3)
#define OBJECT_PINNED (1u << 4)

#endif
