/*
 * console-text LINE...: clears the console, writes the lines from its first row on, and prints the font that the kernel draws them
 * with: `font WIDTH HEIGHT COUNT`, then a line of hexadecimal digits for each glyph.
 */
#include <fcntl.h>
#include <linux/kd.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "say.h"

#define CONSOLE "/dev/tty0"
/* KD_FONT_OP_GET gives 32 bytes a glyph, whatever its height (console_ioctl(2)). */
#define GLYPH_BYTES 32
#define MAX_GLYPHS 512

int main(int argc, char **argv)
{
	static uint8_t glyphs[MAX_GLYPHS * GLYPH_BYTES];
	struct console_font_op op = {
		.op = KD_FONT_OP_GET, .width = 32, .height = 32, .charcount = MAX_GLYPHS, .data = glyphs,
	};
	int tty = open(CONSOLE, O_RDWR | O_NOCTTY);

	if (tty < 0)
		give_up("%s does not open", CONSOLE);
	/* Cursor off, screen cleared, to the top left. */
	dprintf(tty, "\033[?25l\033[2J\033[H");
	for (int i = 1; i < argc; i++)
		if (dprintf(tty, "%s\r\n", argv[i]) < 0)
			give_up("%s cannot be written", CONSOLE);
	if (ioctl(tty, KDFONTOP, &op) < 0)
		give_up("the font cannot be read");

	printf("font %u %u %u\n", op.width, op.height, op.charcount);
	for (unsigned int glyph = 0; glyph < op.charcount; glyph++) {
		for (unsigned int row = 0; row < op.height; row++)
			for (unsigned int byte = 0; byte < (op.width + 7) / 8; byte++)
				printf("%02x", glyphs[glyph * GLYPH_BYTES * ((op.width + 7) / 8) + row * ((op.width + 7) / 8) + byte]);
		printf("\n");
	}
	return 0;
}
