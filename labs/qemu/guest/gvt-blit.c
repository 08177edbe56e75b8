/*
 * gvt-blit GROUP ADDRESS: a driver of the vGPU's blitter in user space, through vfio-pci. It puts status page, context, ring, batch,
 * fence and a framebuffer into memory of its own, maps them page by page into the IOMMU, in another order and with holes, and into the
 * GGTT, submits a batch of fills and a copy through the execlist port and sleeps until the MSI came. Prints what it found; the lab
 * compares.
 */
#include <poll.h>

#include "gvt-blitter.h"

/* Offsets in BAR0. */
#define MASTER_IRQ 0x44200
#define GT0_IMR 0x44304
#define GT0_IIR 0x44308
#define GT0_IER 0x4430c
/* User interrupt and context switch in the GT0 registers. */
#define BCS_USER_INTERRUPT (1u << 16)
#define BCS_CONTEXT_SWITCH (1u << 24)

#define XY_SRC_COPY_BLT (2u << 29 | 0x53u << 22 | 3u << 20 | 8)
#define ROP_SRCCOPY (0xccu << 16)

/* A row is no divisor of a page, so that rows cross pages. */
#define WIDTH 200
#define HEIGHT 90
#define PITCH (WIDTH * 4)
#define BACKGROUND 0xff102030u
#define SQUARE 0x80fedcbau
/* The square, and where its copy goes. */
#define SQUARE_X 17
#define SQUARE_Y 9
#define COPY_X 103
#define COPY_Y 41
#define SIDE 33

#define PAGES (FRAMEBUFFER + (PITCH * HEIGHT + PAGE - 1) / PAGE)

#define SEQNO 0x600df00du
#define MSI_TIMEOUT_MS 10000

static volatile uint32_t *copy(volatile uint32_t *at, uint32_t sx, uint32_t sy, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
	*at++ = XY_SRC_COPY_BLT;
	*at++ = BLT_32BPP | ROP_SRCCOPY | PITCH;
	*at++ = corner(x, y);
	*at++ = corner(x + width, y + height);
	*at++ = gpu_address(FRAMEBUFFER);
	*at++ = 0;
	*at++ = corner(sx, sy);
	*at++ = PITCH;
	*at++ = gpu_address(FRAMEBUFFER);
	*at++ = 0;
	return at;
}

static void write_batch(void)
{
	volatile uint32_t *at = page_at(BATCH);

	at = fill(at, PITCH, 0, 0, WIDTH, HEIGHT, BACKGROUND);
	at = fill(at, PITCH, SQUARE_X, SQUARE_Y, SIDE, SIDE, SQUARE);
	at = copy(at, SQUARE_X, SQUARE_Y, COPY_X, COPY_Y, SIDE, SIDE);
	*at++ = MI_BATCH_BUFFER_END;
	*at++ = 0;
}

static void submit_batch(void)
{
	const uint32_t commands[] = {
		MI_BATCH_BUFFER_START, gpu_address(BATCH), 0,
		MI_FLUSH_DW, gpu_address(FENCE) | MI_FLUSH_DW_GGTT, 0, SEQNO,
		MI_USER_INTERRUPT, 0, 0,
	};
	volatile uint32_t *ring = page_at(RING);

	for (uint32_t i = 0; i < sizeof(commands) / 4; i++)
		ring[i] = commands[i];
	submit(sizeof(commands));
}

/*
 * Sleeps until an MSI comes, acknowledges its events, and again until the user interrupt was among them: by then the fence has been
 * written. Returns how many MSIs came.
 */
static unsigned long wait_for_user_interrupt(int msi, uint32_t *events)
{
	unsigned long count = 0;

	do {
		struct pollfd waiting = { .fd = msi, .events = POLLIN };
		uint64_t came;
		int ready = poll(&waiting, 1, MSI_TIMEOUT_MS);

		if (ready < 0)
			give_up("poll");
		errno = 0;
		if (ready == 0)
			give_up("no MSI within %d ms after %lu; fence %#x, GT0 IIR %#x", MSI_TIMEOUT_MS, count, *page_at(FENCE), read32(GT0_IIR));
		if (read(msi, &came, sizeof(came)) != sizeof(came))
			give_up("the eventfd cannot be read");
		count += came;
		uint32_t pending = read32(GT0_IIR);
		*events |= pending;
		write32(GT0_IIR, pending);
	} while (!(*events & BCS_USER_INTERRUPT));
	return count;
}

static int inside(uint32_t x, uint32_t y, uint32_t left, uint32_t top)
{
	return x >= left && x < left + SIDE && y >= top && y < top + SIDE;
}

/* Compares each pixel. Returns how many are wrong. */
static uint32_t wrong_pixels(void)
{
	volatile uint32_t *pixels = page_at(FRAMEBUFFER);
	uint32_t wrong = 0;

	for (uint32_t y = 0; y < HEIGHT; y++)
		for (uint32_t x = 0; x < WIDTH; x++) {
			int square = inside(x, y, SQUARE_X, SQUARE_Y) || inside(x, y, COPY_X, COPY_Y);
			uint32_t wanted = square ? SQUARE : BACKGROUND, got = pixels[y * WIDTH + x];

			if (got != wanted && wrong++ == 0)
				printf("wrong pixel at %u,%u: %#010x, not %#010x\n", x, y, got, wanted);
		}
	return wrong;
}

int main(int argc, char **argv)
{
	uint64_t size;
	uint32_t events = 0;

	if (argc != 3)
		give_up("usage: gvt-blit GROUP ADDRESS");

	struct vfio_device vfio = vfio_open(argv[1], argv[2]);

	vfio_enable(vfio);
	bar0 = vfio_map_bar(vfio, VFIO_PCI_BAR0_REGION_INDEX, &size);
	printf("bar0 %llu\n", (unsigned long long)size);
	int msi = vfio_msi(vfio);

	claim_vgpu(vfio, PAGES);
	printf("aperture %#x %u\n", aperture, read32(PVINFO_APERTURE_SIZE));
	write32(GT0_IMR, ~(BCS_USER_INTERRUPT | BCS_CONTEXT_SWITCH));
	write32(GT0_IER, BCS_USER_INTERRUPT | BCS_CONTEXT_SWITCH);
	write32(MASTER_IRQ, 1u << 31);
	enable_blitter();

	write_batch();
	submit_batch();
	unsigned long count = wait_for_user_interrupt(msi, &events);

	printf("msi %lu\n", count);
	printf("events %#x\n", events);
	printf("fence %#x\n", *page_at(FENCE));
	printf("pixels %u wrong %u\n", WIDTH * HEIGHT, wrong_pixels());
	return 0;
}
