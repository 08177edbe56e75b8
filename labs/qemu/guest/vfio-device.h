/* A PCI device that vfio-pci has in this guest: its BARs, its MSI, and memory that it can reach. */
#ifndef VFIO_DEVICE_H
#define VFIO_DEVICE_H

#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "say.h"

#define PAGE 4096u

struct vfio_device {
	int container, device;
};

/* group: its number in /dev/vfio. address: as `0000:00:01.0`. */
static struct vfio_device vfio_open(const char *group, const char *address)
{
	struct vfio_device vfio;
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	vfio.container = open("/dev/vfio/vfio", O_RDWR);
	int fd = open(path, O_RDWR);
	if (vfio.container < 0 || fd < 0)
		give_up("/dev/vfio/vfio or %s does not open", path);
	if (ioctl(fd, VFIO_GROUP_GET_STATUS, &status) < 0 || !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		give_up("%s is not viable", path);
	if (ioctl(fd, VFIO_GROUP_SET_CONTAINER, &vfio.container) < 0)
		give_up("%s does not join the container", path);
	if (ioctl(vfio.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		give_up("the container refuses a type 1 IOMMU");
	vfio.device = ioctl(fd, VFIO_GROUP_GET_DEVICE_FD, address);
	if (vfio.device < 0)
		give_up("%s is not in %s", address, path);
	return vfio;
}

static struct vfio_region_info vfio_region(struct vfio_device vfio, uint32_t index)
{
	struct vfio_region_info region = { .argsz = sizeof(region), .index = index };

	if (ioctl(vfio.device, VFIO_DEVICE_GET_REGION_INFO, &region) < 0)
		give_up("region %u", index);
	return region;
}

/* Lets the device answer memory accesses and access memory itself. */
static void vfio_enable(struct vfio_device vfio)
{
	struct vfio_region_info config = vfio_region(vfio, VFIO_PCI_CONFIG_REGION_INDEX);
	uint16_t command;

	if (pread(vfio.device, &command, 2, config.offset + 4) != 2)
		give_up("the command register cannot be read");
	command |= 0x6;
	if (pwrite(vfio.device, &command, 2, config.offset + 4) != 2)
		give_up("the command register cannot be written");
}

static volatile void *vfio_map_bar(struct vfio_device vfio, uint32_t index, uint64_t *size)
{
	struct vfio_region_info bar = vfio_region(vfio, index);
	void *address = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, vfio.device, bar.offset);

	if (address == MAP_FAILED)
		give_up("BAR%u of %llu bytes cannot be mapped", index, (unsigned long long)bar.size);
	*size = bar.size;
	return address;
}

/* An eventfd that counts the device's MSIs. */
static inline int vfio_msi(struct vfio_device vfio)
{
	struct {
		struct vfio_irq_set set;
		int fd;
	} irqs = {
		.set = { .argsz = sizeof(irqs), .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			 .index = VFIO_PCI_MSI_IRQ_INDEX, .start = 0, .count = 1 },
		.fd = eventfd(0, EFD_CLOEXEC),
	};

	if (irqs.fd < 0 || ioctl(vfio.device, VFIO_DEVICE_SET_IRQS, &irqs) < 0)
		give_up("the MSI cannot be set up");
	return irqs.fd;
}

/* Zeroed memory of this process. */
static void *anonymous_pages(uint32_t pages)
{
	void *memory = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		give_up("%u pages of memory", pages);
	return memory;
}

/* Lets the device reach a page of this process at an address of its own. The IOMMU keeps the page where it is. */
static void vfio_map_page(struct vfio_device vfio, void *page, uint64_t iova)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)page, .iova = iova, .size = PAGE,
	};

	if (ioctl(vfio.container, VFIO_IOMMU_MAP_DMA, &map) < 0)
		give_up("a page cannot be mapped for the device at %#llx", (unsigned long long)iova);
}

#endif
