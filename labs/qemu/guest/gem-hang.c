/*
 * gem-hang spin|semaphore|garbage rcs0|bcs0|vcs0|vecs0: makes an engine hang by a batch of a context, and tells what i915 makes of it:
 * how long it took, whether the context was found guilty, whether other contexts, here and on other engines, got on meanwhile, and
 * whether the engine works afterwards.
 */
#include "i915-gem.h"

#define BATCH_ADDRESS 0x10000000ull
#define OBJECT_ADDRESS 0x20000000ull
#define LIMIT_S 90

static uint32_t store_on(int engine, uint32_t context, uint32_t value)
{
	uint32_t dwords[] = { MI_STORE_DATA_IMM, OBJECT_ADDRESS, 0, value, MI_BATCH_BUFFER_END, 0 };
	uint32_t batch = create(4096), object = create(4096);
	put(batch, 0, dwords, sizeof(dwords));
	struct gem_object objects[2] = { at(object, OBJECT_ADDRESS, OBJECT_WRITE), at(batch, BATCH_ADDRESS, 0) };
	errno = execute(objects, 2, engine, context);
	if (errno != 0)
		give_up("execbuffer of a store");
	return object;
}

static int stored(uint32_t object, uint32_t value, double seconds)
{
	uint32_t found = 0;
	if (wait_for(object, seconds) != 0)
		return 0;
	get(object, 0, &found, 4);
	return found == value;
}

static struct gem_reset_stats stats_of(uint32_t context)
{
	struct gem_reset_stats stats = { .context = context };
	if (command(GEM_RESET_STATS, &stats) != 0)
		give_up("GEM_RESET_STATS");
	return stats;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	int engine = 0, other = 0;
	for (unsigned i = 0; argc == 3 && i < sizeof(engines) / sizeof(*engines); i++)
		if (strcmp(engines[i].name, argv[2]) == 0)
			engine = engines[i].engine;
		else
			other = engines[i].engine;
	if (engine == 0) {
		printf("lab: gem-hang spin|semaphore|garbage ENGINE\n");
		return 2;
	}
	open_card();
	uint32_t hanging = create_context(), innocent = create_context();
	const uint32_t spin[] = { MI_BATCH_BUFFER_START, BATCH_ADDRESS, 0, MI_BATCH_BUFFER_END };
	/* Waits for its own first dword to be something else than it is. */
	const uint32_t semaphore[] = { MI_SEMAPHORE_WAIT, 1, BATCH_ADDRESS, 0, MI_BATCH_BUFFER_END, 0 };
	const uint32_t garbage[] = { 0xdeadbeef, 0x1badf00d, 0xffffffff, 0xffffffff, MI_BATCH_BUFFER_END, 0 };
	uint32_t batch = create(4096);
	if (strcmp(argv[1], "spin") == 0)
		put(batch, 0, spin, sizeof(spin));
	else if (strcmp(argv[1], "semaphore") == 0)
		put(batch, 0, semaphore, sizeof(semaphore));
	else
		put(batch, 0, garbage, sizeof(garbage));
	struct gem_object object = at(batch, BATCH_ADDRESS, 0);
	double began = now();
	errno = execute(&object, 1, engine, hanging);
	if (errno != 0)
		give_up("execbuffer of the batch that hangs");
	uint32_t behind = store_on(engine, innocent, 0x600d);
	uint32_t beside = store_on(other, innocent, 0xbe51de);
	printf("hang %s on %s: other engine %s\n", argv[1], argv[2], stored(beside, 0xbe51de, 5) ? "works" : "does not work");
	errno = wait_for(batch, LIMIT_S);
	if (errno != 0)
		give_up("the batch that hangs is not ended");
	struct gem_reset_stats guilty = stats_of(hanging), bystander = stats_of(innocent);
	printf("hang %s on %s: ended after %.1f s, guilty %u innocent %u\n", argv[1], argv[2], now() - began, guilty.batch_active,
	       bystander.batch_active);
	printf("hang %s on %s: behind it %s\n", argv[1], argv[2], stored(behind, 0x600d, 10) ? "right" : "wrong");
	uint32_t after = store_on(engine, create_context(), 0xaf7e4);
	printf("hang %s on %s: afterwards %s\n", argv[1], argv[2], stored(after, 0xaf7e4, 10) ? "right" : "wrong");
	return 0;
}
