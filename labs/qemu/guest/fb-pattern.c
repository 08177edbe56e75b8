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

	uint32_t *row = calloc(1, fix.line_length);

	for (uint32_t y = 0; y < var.yres; y++) {
		for (uint32_t x = 0; x < var.xres; x++)
			row[x] = pattern_pixel(x, y);
		if (pwrite(fb, row, fix.line_length, (off_t)y * fix.line_length) != (ssize_t)fix.line_length)
			give_up("row %u of %s cannot be written", y, FRAMEBUFFER);
	}
	printf("drawn %u %u\n", var.xres, var.yres);
	return 0;
}
