/*
 * kms-planes: sets the first mode of the connected connector with the test pattern on an X-tiled primary plane, a sprite of 200x100 at
 * 100,200 and a cursor of 64x64 at 700,500, prints `drawn WIDTH HEIGHT` and waits for a line; then moves the cursor to -20,-30, prints
 * `moved`, and waits again. jobs/i915-display.ts has the same formula. Layouts and numbers: the kernel's uapi, drm_mode.h, i915_drm.h,
 * which Debian's libc headers leave out.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pattern.h"
#include "say.h"

struct resources {
	uint64_t fbs, crtcs, connectors, encoders;
	uint32_t fb_count, crtc_count, connector_count, encoder_count, min_width, max_width, min_height, max_height;
};
struct mode {
	uint32_t clock;
	uint16_t width, hsync_start, hsync_end, htotal, hskew, height, vsync_start, vsync_end, vtotal, vscan;
	uint32_t refresh, flags, type;
	char name[32];
};
struct connector {
	uint64_t encoders, modes, properties, values;
	uint32_t mode_count, property_count, encoder_count, encoder, id, type, type_id, connection, mm_width, mm_height, subpixel, pad;
};
struct crtc {
	uint64_t connectors;
	uint32_t connector_count, id, fb, x, y, gamma_size, mode_valid;
	struct mode mode;
};
struct cursor {
	uint32_t flags, crtc;
	int32_t x, y;
	uint32_t width, height, handle;
	int32_t hot_x, hot_y;
};
struct framebuffer {
	uint32_t id, width, height, format, flags, handles[4], pitches[4], offsets[4];
	uint64_t modifiers[4];
};
struct plane_list {
	uint64_t planes;
	uint32_t count;
};
struct set_plane {
	uint32_t plane, crtc, fb, flags;
	int32_t x, y;
	uint32_t width, height, source_x, source_y, source_height, source_width;
};
struct gem_create {
	uint64_t size;
	uint32_t handle, pad;
};
struct gem_pwrite {
	uint32_t handle, pad;
	uint64_t offset, size, data;
};

#define GETRESOURCES _IOWR('d', 0xa0, struct resources)
#define SETCRTC _IOWR('d', 0xa2, struct crtc)
#define GETCONNECTOR _IOWR('d', 0xa7, struct connector)
#define GETPLANERESOURCES _IOWR('d', 0xb5, struct plane_list)
#define SETPLANE _IOWR('d', 0xb7, struct set_plane)
#define ADDFB2 _IOWR('d', 0xb8, struct framebuffer)
#define CURSOR2 _IOWR('d', 0xbb, struct cursor)
#define GEM_CREATE _IOWR('d', 0x5b, struct gem_create)
#define GEM_PWRITE _IOW('d', 0x5d, struct gem_pwrite)

#define XR24 0x34325258u
#define MODIFIERS 2u
#define X_TILED (1ull << 56 | 1)
#define LINEAR 0ull
#define CONNECTED 1u
#define CURSOR_SHOW 3u /* buffer and place */
#define CURSOR_MOVE 2u
#define SIDE 64u
/* Columns of the cursor that are clear. */
#define CLEAR 8u

static int card;

static void must(unsigned long request, void *argument, const char *what)
{
	if (ioctl(card, request, argument) != 0)
		give_up("%s", what);
}

static uint32_t object_of(const uint32_t *pixels, uint64_t size)
{
	struct gem_create object = { .size = (size + 4095) & ~4095ull };

	must(GEM_CREATE, &object, "GEM_CREATE");
	struct gem_pwrite range = { .handle = object.handle, .size = size, .data = (uintptr_t)pixels };
	must(GEM_PWRITE, &range, "GEM_PWRITE");
	return object.handle;
}

/* A buffer with the pattern, whose first pixel is the pattern's at `left`, 0. */
static uint32_t buffer(uint32_t width, uint32_t height, uint32_t left, uint64_t modifier)
{
	uint32_t pitch = (width * 4 + 511) & ~511u;
	uint64_t size = (uint64_t)pitch * ((height + 7) & ~7u);
	uint32_t *pixels = calloc(1, size);

	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++) {
			uint64_t tiled = (uint64_t)(y / 8) * 8 * pitch + x / 128 * 4096 + y % 8 * 512 + x % 128 * 4;
			pixels[(modifier == LINEAR ? (uint64_t)y * pitch + x * 4 : tiled) / 4] = pattern_pixel(left + x, y);
		}
	struct framebuffer fb = {
		.width = width, .height = height, .format = XR24, .flags = MODIFIERS, .handles = { object_of(pixels, size) },
		.pitches = { pitch }, .modifiers = { modifier },
	};
	must(ADDFB2, &fb, "ADDFB2");
	free(pixels);
	return fb.id;
}

static uint32_t cursor_image(void)
{
	static uint32_t pixels[SIDE * SIDE];

	for (uint32_t y = 0; y < SIDE; y++)
		for (uint32_t x = CLEAR; x < SIDE; x++)
			pixels[y * SIDE + x] = 0xff000000 | pattern_pixel(4000 + x, y);
	return object_of(pixels, sizeof(pixels));
}

static void wait_for_line(void)
{
	char letter;

	while (read(0, &letter, 1) == 1 && letter != '\n')
		;
}

int main(void)
{
	uint32_t crtcs[8], connectors[8], planes[16];
	struct mode modes[64];
	struct resources resources = { .crtcs = (uintptr_t)crtcs, .connectors = (uintptr_t)connectors, .crtc_count = 8, .connector_count = 8 };
	struct plane_list list = { .planes = (uintptr_t)planes, .count = 16 };
	struct connector connector = { 0 };

	setvbuf(stdout, NULL, _IOLBF, 0);
	card = open("/dev/dri/card0", O_RDWR);
	if (card < 0)
		give_up("/dev/dri/card0 does not open");
	must(GETRESOURCES, &resources, "GETRESOURCES");
	must(GETPLANERESOURCES, &list, "GETPLANERESOURCES");
	for (uint32_t i = 0; i < resources.connector_count && connector.connection != CONNECTED; i++) {
		connector = (struct connector){ .id = connectors[i], .modes = (uintptr_t)modes, .mode_count = 64 };
		must(GETCONNECTOR, &connector, "GETCONNECTOR");
	}
	errno = 0;
	if (connector.connection != CONNECTED || connector.mode_count == 0 || list.count == 0)
		give_up("no connector is connected, or there is no sprite");

	uint32_t width = modes[0].width, height = modes[0].height;
	struct crtc crtc = {
		.connectors = (uintptr_t)&connector.id, .connector_count = 1, .id = crtcs[0], .mode_valid = 1, .mode = modes[0],
		.fb = buffer(width, height, 0, X_TILED),
	};
	must(SETCRTC, &crtc, "SETCRTC with an X-tiled buffer");
	/* Without the capability for all planes, those of the list are sprites; the first is the first CRTC's. */
	struct set_plane sprite = {
		.plane = planes[0], .crtc = crtcs[0], .fb = buffer(200, 100, 2000, LINEAR), .x = 100, .y = 200, .width = 200, .height = 100,
		.source_width = 200 << 16, .source_height = 100 << 16,
	};
	must(SETPLANE, &sprite, "SETPLANE");
	struct cursor cursor = {
		.flags = CURSOR_SHOW, .crtc = crtcs[0], .x = 700, .y = 500, .width = SIDE, .height = SIDE, .handle = cursor_image(),
	};
	must(CURSOR2, &cursor, "CURSOR2");
	printf("drawn %u %u\n", width, height);
	wait_for_line();
	cursor.flags = CURSOR_MOVE;
	cursor.x = -20;
	cursor.y = -30;
	must(CURSOR2, &cursor, "CURSOR2 elsewhere");
	printf("moved\n");
	wait_for_line();
	return 0;
}
