/*
 * mdpy-pattern DEVICE-FOLDER: drives an mdpy device from user space, with its folder in /sys/bus/pci/devices. Reads the mode from the
 * vendor capability, draws the test pattern through BAR0, reads it back and prints `drawn WIDTH HEIGHT`.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pattern.h"
#include "say.h"

/* PCI configuration space. */
#define COMMAND 0x04
#define COMMAND_MEMORY 0x2
#define CAPABILITY 0x40
#define CAPABILITY_VENDOR 0x09
#define CAPABILITY_LENGTH 0x10
/* DRM_FORMAT_XRGB8888 */
#define FORMAT_XR24 0x34325258u

static int open_file(const char *folder, const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDWR);
	if (fd < 0)
		give_up("%s does not open", path);
	return fd;
}

int main(int argc, char **argv)
{
	struct {
		uint8_t id, next, length, reserved;
		uint32_t format, width, height;
	} mode;
	struct stat stat;
	uint16_t command;

	if (argc != 2)
		give_up("usage: mdpy-pattern DEVICE-FOLDER");

	int config = open_file(argv[1], "config");
	int bar = open_file(argv[1], "resource0");

	if (pread(config, &mode, sizeof(mode), CAPABILITY) != sizeof(mode) || pread(config, &command, 2, COMMAND) != 2)
		give_up("the configuration space cannot be read");
	command |= COMMAND_MEMORY;
	if (pwrite(config, &command, 2, COMMAND) != 2)
		give_up("the command register cannot be written");
	printf("mode id=%#x length=%#x format=%#x width=%u height=%u\n", mode.id, mode.length, mode.format, mode.width, mode.height);
	errno = 0;
	if (mode.id != CAPABILITY_VENDOR || mode.length != CAPABILITY_LENGTH || mode.format != FORMAT_XR24)
		give_up("the vendor capability at %#x", CAPABILITY);

	if (fstat(bar, &stat) < 0)
		give_up("the size of BAR0");

	size_t size = (size_t)mode.width * mode.height * 4;

	printf("bar0 %llu\n", (unsigned long long)stat.st_size);
	errno = 0;
	if ((unsigned long long)stat.st_size < size)
		give_up("BAR0 is smaller than the picture of %zu bytes", size);

	volatile uint32_t *pixels = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);

	if (pixels == MAP_FAILED)
		give_up("BAR0 cannot be mapped");
	for (uint32_t y = 0; y < mode.height; y++)
		for (uint32_t x = 0; x < mode.width; x++)
			pixels[y * mode.width + x] = pattern_pixel(x, y);
	errno = 0;
	for (uint32_t y = 0; y < mode.height; y++)
		for (uint32_t x = 0; x < mode.width; x++)
			if (pixels[y * mode.width + x] != pattern_pixel(x, y))
				give_up("BAR0 does not keep the pixel at %u,%u", x, y);
	printf("drawn %u %u\n", mode.width, mode.height);
	return 0;
}
