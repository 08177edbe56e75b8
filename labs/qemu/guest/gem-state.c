/*
 * Queues work on every engine and does not let it finish until the lab says so: in between the vGPU is another one. On each engine one
 * context waits in its batch for a value that the CPU writes, and another one is behind it.
 */
#include "i915-gem.h"

#define BATCH_ADDRESS 0x10000000ull
#define OBJECT_ADDRESS 0x700000000ull
#define SIGNAL 0x600d
#define ENGINES (sizeof(engines) / sizeof(*engines))

/* An object that the CPU sees as well. */
static volatile uint32_t *mapped(uint32_t handle)
{
	struct gem_mmap map = { .handle = handle, .size = 4096 };
	if (command(GEM_MMAP, &map) != 0)
		give_up("GEM_MMAP");
	return (volatile uint32_t *)(uintptr_t)map.address;
}

static void submit(uint32_t object, const uint32_t *dwords, uint64_t size, int engine, uint32_t context)
{
	uint32_t batch = create(4096);
	put(batch, 0, dwords, size);
	struct gem_object list[2] = { at(object, OBJECT_ADDRESS, OBJECT_WRITE), at(batch, BATCH_ADDRESS, 0) };
	errno = execute(list, 2, engine, context);
	if (errno != 0)
		give_up("execbuffer");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	open_card();
	uint32_t objects[ENGINES][2];
	volatile uint32_t *memory[ENGINES];
	const uint32_t low = (uint32_t)OBJECT_ADDRESS, high = OBJECT_ADDRESS >> 32;
	for (unsigned i = 0; i < ENGINES; i++) {
		objects[i][0] = create(4096);
		objects[i][1] = create(4096);
		memory[i] = mapped(objects[i][0]);
		const uint32_t waits[] = { MI_SEMAPHORE_WAIT, SIGNAL, low, high, MI_STORE_DATA_IMM, low + 8, high, 0xd0e0 + i,
					   MI_BATCH_BUFFER_END, 0 };
		const uint32_t stores[] = { MI_STORE_DATA_IMM, low, high, 0xb0b0 + i, MI_BATCH_BUFFER_END, 0 };
		submit(objects[i][0], waits, sizeof(waits), engines[i].engine, create_context());
		submit(objects[i][1], stores, sizeof(stores), engines[i].engine, create_context());
	}
	errno = 0;
	for (unsigned i = 0; i < ENGINES; i++)
		if (memory[i][2] != 0)
			give_up("%s did not wait", engines[i].name);
	printf("queued on %d engines\n", (int)ENGINES);
	char line[16];
	if (fgets(line, sizeof(line), stdin) == NULL)
		give_up("the lab said nothing");
	for (unsigned i = 0; i < ENGINES; i++)
		memory[i][0] = SIGNAL;
	for (unsigned i = 0; i < ENGINES; i++)
		for (int which = 0; which < 2; which++) {
			errno = wait_for(objects[i][which], 20);
			if (errno != 0)
				give_up("%s does not go on", engines[i].name);
		}
	errno = 0;
	for (unsigned i = 0; i < ENGINES; i++) {
		uint32_t behind = 0;
		get(objects[i][1], 0, &behind, 4);
		if (memory[i][2] != 0xd0e0 + i || behind != 0xb0b0 + i)
			give_up("%s stored something else", engines[i].name);
	}
	printf("queued work right\n");
	return 0;
}
