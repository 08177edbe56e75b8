/** Reads the text of a Linux console out of a picture, with the font that the guest's kernel says it draws with. */
import { type Picture, rgb } from './picture.js';

export interface Font {
  readonly width: number;
  readonly height: number;
  /** Each glyph's rows from the top, the leftmost pixel in the top bit, as hexadecimal digits; its index is its character's code. */
  readonly glyphs: readonly string[];
}

/** Colours of text that nobody coloured: 7 and 0 of the console's palette (drivers/tty/vt/vt.c, default_red and its like). */
const FOREGROUND = 0xaa_aaaa;
const BACKGROUND = 0x00_0000;
const PRINTABLE = { FIRST: 0x20, LAST: 0x7e } as const;
/** Stands in the text for a cell that shows no printable ASCII character. */
export const UNREADABLE = '\ufffd';

/**
 * The text of the console that fills a picture from its top left, one string a row, blanks at the end removed.
 * @throws Error when a pixel in a cell has neither the text's nor the background's colour, and when two characters look the same
 */
export function readText(picture: Picture, font: Font): string[] {
  const characters = new Map<string, string>();
  for (let code: number = PRINTABLE.FIRST; code <= PRINTABLE.LAST; code++) {
    const glyph = font.glyphs[code];
    if (glyph === undefined) throw new Error(`the font has ${font.glyphs.length} glyphs, none for character ${code}`);
    const other = characters.get(glyph);
    if (other !== undefined) throw new Error(`in this font '${other}' and '${String.fromCharCode(code)}' look the same`);
    characters.set(glyph, String.fromCharCode(code));
  }
  const rows = Math.floor(picture.height / font.height);
  const columns = Math.floor(picture.width / font.width);
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: columns }, (_, column) => characters.get(glyphAt(picture, font, column, row)) ?? UNREADABLE)
      .join('')
      .trimEnd(),
  );
}

function glyphAt({ width, pixels }: Picture, font: Font, column: number, row: number): string {
  let digits = '';
  for (let y = row * font.height; y < (row + 1) * font.height; y++) {
    let bits = 0;
    for (let x = column * font.width; x < (column + 1) * font.width; x++) {
      const pixel = pixels[y * width + x] as number;
      if (pixel !== FOREGROUND && pixel !== BACKGROUND) throw new Error(`no text: at ${x},${y} is ${rgb(pixel)}`);
      bits = (bits << 1) | (pixel === FOREGROUND ? 1 : 0);
    }
    digits += bits.toString(16).padStart(font.width / 4, '0');
  }
  return digits;
}

/**
 * A font out of the lines of `guest/console-text.c`: `font WIDTH HEIGHT COUNT`, then the glyphs' digits, one a line.
 * @throws Error when they are not that
 */
export function fontOf(heading: string, lines: readonly string[]): Font {
  const [width, height, count] = (/^font (\d+) (\d+) (\d+)$/.exec(heading) ?? []).slice(1).map(Number);
  if (width === undefined || height === undefined || width !== 8)
    throw new Error(`the guest's font is '${heading}', which is not 8 pixels wide`);
  const bad = lines.find((line) => !/^[0-9a-f]+$/.test(line) || line.length !== (width / 4) * height);
  if (lines.length !== count || bad !== undefined)
    throw new Error(`the guest gave ${lines.length} glyphs for '${heading}', among them '${bad ?? ''}'`);
  return { width, height, glyphs: lines };
}
