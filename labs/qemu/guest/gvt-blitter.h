/*
 * A driver of a vGPU's blitter in user space, through vfio-pci: registers, memory of its own that the GPU reaches through IOMMU and GGTT, one context
 * with its ring.
 *
 * Registers and commands: Intel's Programmer's Reference Manual for Broadwell, volumes 2a-2c, and GVT-g's PVINFO page.
 */
#ifndef GVT_BLITTER_H
#define GVT_BLITTER_H

#include "vfio-device.h"

/* Offsets in BAR0. */
#define PVINFO 0x78000
#define PVINFO_APERTURE (PVINFO + 0x40)
#define PVINFO_APERTURE_SIZE (PVINFO + 0x44)
#define PVINFO_MAGIC 0x4776544776544776ull
#define GGTT 0x800000
/* The blitter engine's block. */
#define BCS_HWS_PGA (0x22000 + 0x80)
#define BCS_IMR (0x22000 + 0xa8)
#define BCS_ELSP (0x22000 + 0x230)
#define BCS_MODE (0x22000 + 0x29c)

#define MI_USER_INTERRUPT (0x02u << 23)
#define MI_BATCH_BUFFER_END (0x0au << 23)
/* Three dwords; a GGTT address. */
#define MI_BATCH_BUFFER_START (0x31u << 23 | 1)
/* Four dwords, which store a dword; a GGTT address. */
#define MI_FLUSH_DW (0x26u << 23 | 1u << 14 | 2)
#define MI_FLUSH_DW_GGTT (1u << 2)
/* Of the 2D client, alpha and colours written. */
#define XY_COLOR_BLT (2u << 29 | 0x50u << 22 | 3u << 20 | 5)
#define BLT_32BPP (3u << 24)
#define ROP_PATCOPY (0xf0u << 16)

/* Pages of the memory, and of the GGTT from the aperture's start on. */
enum { STATUS = 0, CONTEXT = 1, RING_STATE = 2, RING = 4, FENCE = 5, BATCH = 6, FRAMEBUFFER = 7 };

/* DMA address of a page: the last page comes first, and a page that is not mapped is between any two. */
#define IOVA 0x10000000ull
#define DMA_ADDRESS(page, pages) (IOVA + 2ull * PAGE * ((pages) - 1 - (page)))

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

/* A rectangle of the framebuffer, whose rows have `pitch` bytes. */
static volatile uint32_t *fill(volatile uint32_t *at, uint32_t pitch, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
			       uint32_t color)
{
	*at++ = XY_COLOR_BLT;
	*at++ = BLT_32BPP | ROP_PATCOPY | pitch;
	*at++ = corner(x, y);
	*at++ = corner(x + width, y + height);
	*at++ = gpu_address(FRAMEBUFFER);
	*at++ = 0;
	*at++ = color;
	return at;
}

/* Is the device a vGPU? Then its memory becomes ours: `pages` pages, each mapped by itself, in the GGTT from the aperture's start on. */
static void claim_vgpu(struct vfio_device vfio, uint32_t pages)
{
	uint64_t magic = *(volatile uint64_t *)(bar0 + PVINFO);

	errno = 0;
	if (magic != PVINFO_MAGIC)
		give_up("PVINFO has the magic %#llx: this is no vGPU", (unsigned long long)magic);
	aperture = read32(PVINFO_APERTURE);
	memory = anonymous_pages(pages);
	for (uint32_t page = 0; page < pages; page++) {
		vfio_map_page(vfio, memory + page * PAGE, DMA_ADDRESS(page, pages));
		*(volatile uint64_t *)(bar0 + GGTT + gpu_address(page) / PAGE * 8) = DMA_ADDRESS(page, pages) | 1;
	}
}

/* Status page and execlists of the blitter. */
static void enable_blitter(void)
{
	write32(BCS_HWS_PGA, gpu_address(STATUS));
	write32(BCS_IMR, 0);
	/* Masked: execlists on. */
	write32(BCS_MODE, 1u << 31 | 1u << 15);
}

/* The context with the ring's one page up to `tail`. Head is the device's once the context has run. */
static void submit(uint32_t tail)
{
	volatile uint32_t *state = page_at(RING_STATE);

	/* Values of tail, start and control, each after its register's number. */
	state[0x1c / 4] = tail;
	state[0x24 / 4] = gpu_address(RING);
	state[0x2c / 4] = 1;
	__sync_synchronize();
	/* No second context; context id 1; valid, 32-bit addresses, privileged. The last of the four submits. */
	write32(BCS_ELSP, 0);
	write32(BCS_ELSP, 0);
	write32(BCS_ELSP, 1);
	write32(BCS_ELSP, gpu_address(CONTEXT) | 1u << 8 | 1u << 3 | 1);
}

#endif
