/*
 * gvt-blit GROUP ADDRESS: a driver of the vGPU's blitter in user space, through vfio-pci. It puts status page, context, ring, batch,
 * fence and a framebuffer into memory of its own, maps them page by page into the IOMMU, in another order and with holes, and into the
 * GGTT, submits a batch of fills and a copy through the execlist port and sleeps until the MSI came. Prints what it found; the lab
 * compares.
 *
 * Registers and commands: Intel's Programmer's Reference Manual for Broadwell, volumes 2a-2c, and GVT-g's PVINFO page.
 */
#include <poll.h>

#include "vfio-device.h"

/* Offsets in BAR0. */
#define PVINFO 0x78000
#define PVINFO_APERTURE (PVINFO + 0x40)
#define PVINFO_APERTURE_SIZE (PVINFO + 0x44)
#define PVINFO_MAGIC 0x4776544776544776ull
#define GGTT 0x800000
#define MASTER_IRQ 0x44200
#define GT0_IMR 0x44304
#define GT0_IIR 0x44308
#define GT0_IER 0x4430c
/* The blitter engine's block. */
#define BCS_HWS_PGA (0x22000 + 0x80)
#define BCS_IMR (0x22000 + 0xa8)
#define BCS_ELSP (0x22000 + 0x230)
#define BCS_MODE (0x22000 + 0x29c)
/* User interrupt and context switch in the GT0 registers. */
#define BCS_USER_INTERRUPT (1u << 16)
#define BCS_CONTEXT_SWITCH (1u << 24)

#define MI_USER_INTERRUPT (0x02u << 23)
#define MI_BATCH_BUFFER_END (0x0au << 23)
/* Three dwords; a GGTT address. */
#define MI_BATCH_BUFFER_START (0x31u << 23 | 1)
/* Four dwords, which store a dword; a GGTT address. */
#define MI_FLUSH_DW (0x26u << 23 | 1u << 14 | 2)
#define MI_FLUSH_DW_GGTT (1u << 2)
/* Of the 2D client, alpha and colours written. */
#define XY_COLOR_BLT (2u << 29 | 0x50u << 22 | 3u << 20 | 5)
#define XY_SRC_COPY_BLT (2u << 29 | 0x53u << 22 | 3u << 20 | 8)
#define BLT_32BPP (3u << 24)
#define ROP_PATCOPY (0xf0u << 16)
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

/* Pages of the memory, and of the GGTT from the aperture's start on. */
enum { STATUS = 0, CONTEXT = 1, RING_STATE = 2, RING = 4, FENCE = 5, BATCH = 6, FRAMEBUFFER = 7 };
#define PAGES (FRAMEBUFFER + (PITCH * HEIGHT + PAGE - 1) / PAGE)

/* DMA address of a page: the last page comes first, and a page that is not mapped is between any two. */
#define IOVA 0x10000000ull
#define DMA_ADDRESS(page) (IOVA + 2ull * PAGE * (PAGES - 1 - (page)))
#define SEQNO 0x600df00du
#define MSI_TIMEOUT_MS 10000

static volatile uint8_t *bar0;
static uint8_t *memory;
static uint32_t aperture;

static uint32_t read32(uint32_t offset)
{
	return *(volatile uint32_t *)(bar0 + offset);
}

static void write32(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(bar0 + offset) = value;
}

static uint32_t gpu_address(uint32_t page)
{
	return aperture + page * PAGE;
}

static volatile uint32_t *page_at(uint32_t page)
{
	return (volatile uint32_t *)(memory + page * PAGE);
}

static uint32_t corner(uint32_t x, uint32_t y)
{
	return y << 16 | x;
}

static volatile uint32_t *fill(volatile uint32_t *at, uint32_t x, uint32_t y, uint32_t width, uint32_t height, uint32_t color)
{
	*at++ = XY_COLOR_BLT;
	*at++ = BLT_32BPP | ROP_PATCOPY | PITCH;
	*at++ = corner(x, y);
	*at++ = corner(x + width, y + height);
	*at++ = gpu_address(FRAMEBUFFER);
	*at++ = 0;
	*at++ = color;
	return at;
}

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

	at = fill(at, 0, 0, WIDTH, HEIGHT, BACKGROUND);
	at = fill(at, SQUARE_X, SQUARE_Y, SIDE, SIDE, SQUARE);
	at = copy(at, SQUARE_X, SQUARE_Y, COPY_X, COPY_Y, SIDE, SIDE);
	*at++ = MI_BATCH_BUFFER_END;
	*at++ = 0;
}

static void submit(void)
{
	const uint32_t commands[] = {
		MI_BATCH_BUFFER_START, gpu_address(BATCH), 0,
		MI_FLUSH_DW, gpu_address(FENCE) | MI_FLUSH_DW_GGTT, 0, SEQNO,
		MI_USER_INTERRUPT, 0, 0,
	};
	volatile uint32_t *ring = page_at(RING), *state = page_at(RING_STATE);

	for (uint32_t i = 0; i < sizeof(commands) / 4; i++)
		ring[i] = commands[i];
	/* Values of head, tail, start and control, each after its register's number. */
	state[0x14 / 4] = 0;
	state[0x1c / 4] = sizeof(commands);
	state[0x24 / 4] = gpu_address(RING);
	state[0x2c / 4] = 1;
	__sync_synchronize();
	/* No second context; context id 1; valid, 32-bit addresses, privileged. The last of the four submits. */
	write32(BCS_ELSP, 0);
	write32(BCS_ELSP, 0);
	write32(BCS_ELSP, 1);
	write32(BCS_ELSP, gpu_address(CONTEXT) | 1u << 8 | 1u << 3 | 1);
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

	uint64_t magic = *(volatile uint64_t *)(bar0 + PVINFO);

	errno = 0;
	if (magic != PVINFO_MAGIC)
		give_up("PVINFO has the magic %#llx: this is no vGPU", (unsigned long long)magic);
	aperture = read32(PVINFO_APERTURE);
	printf("aperture %#x %u\n", aperture, read32(PVINFO_APERTURE_SIZE));
	memory = anonymous_pages(PAGES);
	for (uint32_t page = 0; page < PAGES; page++) {
		vfio_map_page(vfio, memory + page * PAGE, DMA_ADDRESS(page));
		*(volatile uint64_t *)(bar0 + GGTT + gpu_address(page) / PAGE * 8) = DMA_ADDRESS(page) | 1;
	}
	write32(BCS_HWS_PGA, gpu_address(STATUS));
	write32(BCS_IMR, 0);
	write32(GT0_IMR, ~(BCS_USER_INTERRUPT | BCS_CONTEXT_SWITCH));
	write32(GT0_IER, BCS_USER_INTERRUPT | BCS_CONTEXT_SWITCH);
	write32(MASTER_IRQ, 1u << 31);
	/* Masked: execlists on. */
	write32(BCS_MODE, 1u << 31 | 1u << 15);

	write_batch();
	submit();
	unsigned long count = wait_for_user_interrupt(msi, &events);

	printf("msi %lu\n", count);
	printf("events %#x\n", events);
	printf("fence %#x\n", *page_at(FENCE));
	printf("pixels %u wrong %u\n", WIDTH * HEIGHT, wrong_pixels());
	return 0;
}
