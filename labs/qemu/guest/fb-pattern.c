/* fb-pattern: draws the test pattern on /dev/fb0 through write(2), and prints `drawn WIDTH HEIGHT`. */
#include <fcntl.h>
#include <linux/fb.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pattern.h"
#include "say.h"

#define FRAMEBUFFER "/dev/fb0"

int main(void)
{
	struct fb_var_screeninfo var;
	struct fb_fix_screeninfo fix;
	int fb = open(FRAMEBUFFER, O_RDWR);

	if (fb < 0)
		give_up("%s does not open", FRAMEBUFFER);
	if (ioctl(fb, FBIOGET_VSCREENINFO, &var) < 0 || ioctl(fb, FBIOGET_FSCREENINFO, &fix) < 0)
		give_up("%s does not tell its mode", FRAMEBUFFER);
	errno = 0;
	if (var.bits_per_pixel != 32 || var.red.offset != 16 || var.green.offset != 8 || var.blue.offset != 0)
		give_up("%s has %u bits a pixel, red at %u", FRAMEBUFFER, var.bits_per_pixel, var.red.offset);

	/*
	 * Whole, in one write: of a write that is exactly one row, Linux 6.1 computes an empty rectangle and does not copy it to the
	 * device (drivers/gpu/drm/drm_fb_helper.c, drm_fb_helper_memory_range_to_clip: the end's column is taken modulo the row).
	 */
	size_t size = (size_t)fix.line_length * var.yres;
	uint8_t *picture = calloc(1, size);

	for (uint32_t y = 0; y < var.yres; y++)
		for (uint32_t x = 0; x < var.xres; x++)
			((uint32_t *)(picture + (size_t)y * fix.line_length))[x] = pattern_pixel(x, y);
	if (pwrite(fb, picture, size, 0) != (ssize_t)size)
		give_up("%s does not take %zu bytes", FRAMEBUFFER, size);
	printf("drawn %u %u\n", var.xres, var.yres);
	return 0;
}
