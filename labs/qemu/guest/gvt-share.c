/*
 * gvt-share GROUP ADDRESS: keeps the blitter of a vGPU busy until a line comes on standard input. Each piece of work is a batch of fills and a store
 * of the piece's number, a few milliseconds of the engine's; many of them wait in the ring, or a guest that is not
 * run for a while would have none. Says how many are done, ten times a second,
 * and at the end whether the number of each, and the picture of the last, is right.
 */
#include <poll.h>
#include <time.h>

#include "gvt-blitter.h"

#define WIDTH 256
#define HEIGHT 64
#define PITCH (WIDTH * 4)
#define PAGES (FRAMEBUFFER + PITCH * HEIGHT / PAGE)
#define FILLS 140
/* Dwords of a piece in the ring, and how many pieces the ring has: one less may wait, or a full ring would look like an empty one. */
#define PIECE 8
#define RING_PIECES (PAGE / 4 / PIECE)
#define AHEAD 120
#define LOOK_MS 2
#define SAY_MS 100

static void write_batch(void)
{
	volatile uint32_t *at = page_at(BATCH);

	for (uint32_t i = 0; i < FILLS; i++)
		at = fill(at, PITCH, 0, 0, WIDTH, HEIGHT, i + 1);
	*at++ = MI_BATCH_BUFFER_END;
	*at++ = 0;
}

/* Appends piece `number` to the ring. */
static void append(uint32_t number)
{
	const uint32_t commands[PIECE] = {
		MI_BATCH_BUFFER_START, gpu_address(BATCH), 0,
		MI_FLUSH_DW, gpu_address(FENCE) | MI_FLUSH_DW_GGTT, 0, number,
		0,
	};
	volatile uint32_t *ring = page_at(RING) + (number - 1) % RING_PIECES * PIECE;

	for (uint32_t i = 0; i < PIECE; i++)
		ring[i] = commands[i];
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

/* Sleeps a little. Returns whether a line came. */
static int told_to_stop(void)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };

	return poll(&input, 1, LOOK_MS) > 0;
}

static uint32_t wrong_pixels(void)
{
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < WIDTH * HEIGHT; i++)
		wrong += page_at(FRAMEBUFFER)[i] != FILLS;
	return wrong;
}

int main(int argc, char **argv)
{
	uint64_t size, said = 0;
	uint32_t submitted = 0, done = 0;
	int stopping = 0;

	if (argc != 3)
		give_up("usage: gvt-share GROUP ADDRESS");

	struct vfio_device vfio = vfio_open(argv[1], argv[2]);

	setlinebuf(stdout);
	vfio_enable(vfio);
	bar0 = vfio_map_bar(vfio, VFIO_PCI_BAR0_REGION_INDEX, &size);
	claim_vgpu(vfio, PAGES);
	enable_blitter();
	write_batch();
	printf("submitting\n");
	while (!stopping || done < submitted) {
		stopping |= told_to_stop();

		uint32_t fence = *page_at(FENCE);
		errno = 0;
		if (fence < done || fence > submitted)
			give_up("piece %u is said to be done after %u of %u", fence, done, submitted);
		done = fence;
		if (!stopping && submitted - done < AHEAD) {
			while (submitted - done < AHEAD)
				append(++submitted);
			submit(submitted % RING_PIECES * PIECE * 4);
		}
		if (now_ms() - said >= SAY_MS) {
			said = now_ms();
			printf("done %u\n", done);
		}
	}
	printf("finished %u wrong %u\n", done, wrong_pixels());
	return 0;
}
