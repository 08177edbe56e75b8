/*
 * gem-check: submits through i915's GEM and compares what the GPU wrote byte for byte: stores on each engine, in objects of 4 KiB and of
 * 2 MiB, below and above 4 GiB; blits between linear and tiled surfaces; two contexts in turns with one address for two objects.
 *
 * Commands and tilings: Intel's Programmer's Reference Manual for Broadwell, volumes 2a, 5 and 11.
 */
#include "i915-gem.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define BATCH_ADDRESS (3 * GIB)

static uint32_t low(uint64_t address)
{
	return (uint32_t)address;
}

static uint32_t high(uint64_t address)
{
	return (uint32_t)(address >> 32);
}

static uint32_t batch_of(const uint32_t *dwords, int count)
{
	uint32_t batch = create(4 * KIB);
	put(batch, 0, dwords, count * 4);
	return batch;
}

/* Each engine stores a dword to the first, a middle and the last page of an object. */
static void stores(uint64_t size, uint64_t address)
{
	for (unsigned i = 0; i < sizeof(engines) / sizeof(*engines); i++) {
		uint32_t object = create(size);
		uint32_t dwords[16];
		uint64_t offsets[3] = { 8, (size / 2 & ~0xfffull) + 64, size - 4 };
		int count = 0;
		for (int j = 0; j < 3; j++) {
			dwords[count++] = MI_STORE_DATA_IMM;
			dwords[count++] = low(address + offsets[j]);
			dwords[count++] = high(address + offsets[j]);
			dwords[count++] = 0x1234560 + 16 * i + j;
		}
		dwords[count++] = MI_BATCH_BUFFER_END;
		dwords[count++] = 0;
		struct gem_object objects[2] = { at(object, address, OBJECT_WRITE), at(batch_of(dwords, count), BATCH_ADDRESS, 0) };
		errno = execute(objects, 2, engines[i].engine, 0);
		if (errno != 0)
			give_up("execbuffer on %s", engines[i].name);
		errno = wait_for(object, 10);
		if (errno != 0)
			give_up("%s does not finish", engines[i].name);
		uint8_t *found = malloc(size), *wanted = calloc(1, size);
		for (int j = 0; j < 3; j++)
			memcpy(wanted + offsets[j], &dwords[j * 4 + 3], 4);
		get(object, 0, found, size);
		if (memcmp(found, wanted, size) != 0)
			give_up("%s stored something else", engines[i].name);
		free(found);
		free(wanted);
	}
	printf("stores %llu KiB at 0x%llx right\n", (unsigned long long)(size / KIB), (unsigned long long)address);
}

enum { LINEAR, TILE_X, TILE_Y };
static const char *const tilings[] = { "linear", "X", "Y" };

/* Where a byte of a surface is. */
static uint64_t place(int tiling, uint32_t pitch, uint32_t x, uint32_t y)
{
	if (tiling == TILE_X)
		return (uint64_t)(y / 8) * pitch * 8 + x / 512 * 4096 + y % 8 * 512 + x % 512;
	if (tiling == TILE_Y)
		return (uint64_t)(y / 32) * pitch * 32 + x / 128 * 4096 + x % 128 / 16 * 512 + y % 32 * 16 + x % 16;
	return (uint64_t)y * pitch + x;
}

#define BCS_SWCTRL 0x22200
#define XY_SRC_COPY_BLT (2u << 29 | 0x53u << 22 | 3u << 20 | 8)
#define BLT_32BPP (3u << 24)
#define ROP_SRCCOPY (0xccu << 16)

/* Copies a rectangle of 32-bit pixels between two surfaces and compares with what the CPU makes of it. */
static void blit(int from, int to, uint64_t size, uint64_t source_address, uint64_t address)
{
	const uint32_t pitch = 2048;
	const uint32_t rows = size / pitch;
	/* No edge lies on a tile's; the destination is elsewhere than the source. */
	const uint32_t width = 333, height = rows - 11, sx = 7, sy = 3, dx = 101, dy = 9;
	uint32_t source = create(size), destination = create(size);
	uint8_t *pixels = malloc(size), *wanted = malloc(size), *found = malloc(size);
	uint32_t state = 0x2545f491;
	for (uint64_t i = 0; i < size; i++) {
		state = state * 1664525 + 1013904223;
		pixels[i] = state >> 24;
		wanted[i] = state >> 16;
	}
	put(source, 0, pixels, size);
	put(destination, 0, wanted, size);
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width * 4; x++)
			wanted[place(to, pitch, dx * 4 + x, dy + y)] = pixels[place(from, pitch, sx * 4 + x, sy + y)];
	uint32_t dwords[] = {
		MI_LOAD_REGISTER_IMM,
		BCS_SWCTRL,
		3u << 16 | (from == TILE_Y) | (to == TILE_Y) << 1,
		XY_SRC_COPY_BLT | (from != LINEAR) << 15 | (to != LINEAR) << 11,
		BLT_32BPP | ROP_SRCCOPY | (to == LINEAR ? pitch : pitch / 4),
		dy << 16 | dx,
		(dy + height) << 16 | (dx + width),
		low(address),
		high(address),
		sy << 16 | sx,
		from == LINEAR ? pitch : pitch / 4,
		low(source_address),
		high(source_address),
		MI_LOAD_REGISTER_IMM,
		BCS_SWCTRL,
		3u << 16,
		MI_BATCH_BUFFER_END,
		0,
	};
	struct gem_object objects[3] = {
		at(source, source_address, 0),
		at(destination, address, OBJECT_WRITE),
		at(batch_of(dwords, sizeof(dwords) / 4), BATCH_ADDRESS, 0),
	};
	errno = execute(objects, 3, BCS, 0);
	if (errno != 0)
		give_up("execbuffer of a blit");
	errno = wait_for(destination, 10);
	if (errno != 0)
		give_up("a blit does not finish");
	get(destination, 0, found, size);
	for (uint64_t i = 0; i < size; i++)
		if (found[i] != wanted[i]) {
			errno = 0;
			give_up("blit %s to %s, %llu KiB: byte 0x%llx is 0x%02x, not 0x%02x", tilings[from], tilings[to],
				(unsigned long long)(size / KIB), (unsigned long long)i, found[i], wanted[i]);
		}
	free(pixels);
	free(wanted);
	free(found);
	printf("blit %s to %s %llu KiB right\n", tilings[from], tilings[to], (unsigned long long)(size / KIB));
}

/* In each context the same address is another object; they take turns without waiting. */
static void contexts(void)
{
	enum { CONTEXTS = 2, ROUNDS = 100 };
	const uint64_t address = 5 * GIB;
	uint32_t ids[CONTEXTS], objects[CONTEXTS];
	for (int c = 0; c < CONTEXTS; c++) {
		ids[c] = create_context();
		objects[c] = create(4 * KIB);
	}
	for (int round = 0; round < ROUNDS; round++)
		for (int c = 0; c < CONTEXTS; c++) {
			uint64_t to = address + 8 * round;
			uint32_t dwords[] = { MI_STORE_DATA_IMM, low(to), high(to), 0xc0de0000 + (c << 12) + round, MI_BATCH_BUFFER_END, 0 };
			struct gem_object list[2] = { at(objects[c], address, OBJECT_WRITE), at(batch_of(dwords, 6), BATCH_ADDRESS + 4 * KIB * round, 0) };
			errno = execute(list, 2, round % 2 ? BCS : RCS, ids[c]);
			if (errno != 0)
				give_up("execbuffer of context %d", c);
		}
	for (int c = 0; c < CONTEXTS; c++) {
		errno = wait_for(objects[c], 20);
		if (errno != 0)
			give_up("context %d does not finish", c);
		uint32_t found[1024], wanted[1024] = { 0 };
		for (int round = 0; round < ROUNDS; round++)
			wanted[round * 2] = 0xc0de0000 + (c << 12) + round;
		get(objects[c], 0, found, sizeof(found));
		if (memcmp(found, wanted, sizeof(found)) != 0)
			give_up("context %d stored something else", c);
	}
	printf("contexts right\n");
}

/* An engine waits in a batch for a value that the CPU writes: until then the object is busy, and the engine after it stores. */
static void semaphores(void)
{
	const uint64_t address = 7 * GIB;
	for (unsigned i = 0; i < sizeof(engines) / sizeof(*engines); i++) {
		uint32_t object = create(4 * KIB);
		struct gem_mmap map = { .handle = object, .size = 4 * KIB };
		if (command(GEM_MMAP, &map) != 0)
			give_up("GEM_MMAP");
		volatile uint32_t *memory = (volatile uint32_t *)(uintptr_t)map.address;
		memory[0] = 0;
		uint32_t dwords[] = { MI_SEMAPHORE_WAIT, 0x600d, low(address), high(address), MI_STORE_DATA_IMM, low(address + 8),
				      high(address), 0xd0e + i, MI_BATCH_BUFFER_END, 0 };
		struct gem_object list[2] = { at(object, address, OBJECT_WRITE), at(batch_of(dwords, 10), BATCH_ADDRESS, 0) };
		errno = execute(list, 2, engines[i].engine, 0);
		if (errno != 0)
			give_up("execbuffer of a semaphore on %s", engines[i].name);
		errno = wait_for(object, 0.3);
		struct gem_busy busy = { .handle = object };
		if (errno != ETIME || command(GEM_BUSY, &busy) != 0 || busy.busy == 0 || memory[2] != 0)
			give_up("%s does not wait for its semaphore", engines[i].name);
		memory[0] = 0x600d;
		errno = wait_for(object, 10);
		if (errno != 0)
			give_up("%s does not see its semaphore", engines[i].name);
		if (command(GEM_BUSY, &busy) != 0 || busy.busy != 0 || memory[2] != 0xd0e + i)
			give_up("%s did not go on behind its semaphore", engines[i].name);
	}
	printf("semaphores right\n");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	open_card();
	const uint64_t sizes[] = { 4 * KIB, 2 * MIB, 3 * MIB };
	for (int i = 0; i < 3; i++) {
		stores(sizes[i], 2 * GIB);
		stores(sizes[i], 0x123400000000ull);
	}
	for (int from = LINEAR; from <= TILE_Y; from++)
		for (int to = LINEAR; to <= TILE_Y; to++) {
			blit(from, to, 128 * KIB, 1 * GIB, 0x7f0000000000ull);
			blit(from, to, 2 * MIB, 6 * GIB, 1 * GIB + 2 * MIB);
		}
	contexts();
	semaphores();
	printf("gem-check done\n");
	return 0;
}
