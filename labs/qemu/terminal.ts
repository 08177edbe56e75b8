/**
 * Reads the text of a terminal out of a picture of a desktop, whatever its font is: the terminal shows a ruler that tells where its cells
 * are, and then all characters in order, from which their glyphs are learnt.
 */
import type { Picture } from './picture.js';

/** Columns of the ruler; a terminal has at least as many. */
const COLUMNS = 48;
const PRINTABLE = { FIRST: 0x20, LAST: 0x7e } as const;
const characters = Array.from({ length: PRINTABLE.LAST - PRINTABLE.FIRST + 1 }, (_, i) => String.fromCharCode(PRINTABLE.FIRST + i)).join(
  '',
);
/** The characters as the terminal shows them, in rows. */
const ALPHABET = [characters.slice(0, COLUMNS), characters.slice(COLUMNS)] as const;

/** Background colours of the ruler's cells, in turns: SGR 41 and 42 of the terminal's palette. */
const COLOURS = [0xa8_0000, 0x00_a800] as const;
const RULER = '\\033[41m \\033[42m '.repeat(COLUMNS / 2);

/** What the terminal's shell prints before its text: an argument of printf. The text begins in the row below. */
export const KEY = `${RULER}\\033[0m\\r\\n${ALPHABET.map((row) => [...row].map(octal).join('')).join('\\r\\n')}\\r\\n`;

function octal(character: string): string {
  return `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`;
}

interface Grid {
  readonly left: number;
  readonly top: number;
  readonly cell: { readonly width: number; readonly height: number };
}

/** @returns the text of the rows below the key, up to `COLUMNS` of each. @throws Error when there is no ruler, or glyphs cannot be told apart */
export function readTerminal(picture: Picture, rows: number): string[] {
  const grid = findGrid(picture);
  const glyphs = new Map<string, string>();
  ALPHABET.forEach((row, y) => {
    [...row].forEach((character, x) => {
      const glyph = glyphAt(picture, grid, x, y + 1);
      const other = glyphs.get(glyph);
      if (other !== undefined) throw new Error(`in the terminal '${other}' and '${character}' look the same`);
      glyphs.set(glyph, character);
    });
  });
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: COLUMNS }, (_, column) => glyphs.get(glyphAt(picture, grid, column, row + 1 + ALPHABET.length)) ?? '\ufffd')
      .join('')
      .trimEnd(),
  );
}

/** The ruler: `COLUMNS` runs of pixels of the same length, of both colours in turns. */
function findGrid({ width, height, pixels }: Picture): Grid {
  const [first, second] = COLOURS;
  const at = pixels.indexOf(first);
  if (at < 0) throw new Error('there is no ruler in the picture: no pixel has its colour');
  const [left, top] = [at % width, Math.floor(at / width)];
  const run = (colour: number, from: number, step: number, limit: number): number => {
    let length = 0;
    while (length < limit && pixels[from + length * step] === colour) length++;
    return length;
  };
  const cell = { width: run(first, at, 1, width - left), height: run(first, at, width, height - top) };
  for (let column = 0; column < COLUMNS; column++) {
    const x = left + column * cell.width;
    const found = x < width ? run(column % 2 === 0 ? first : second, top * width + x, 1, width - x) : 0;
    if (found !== cell.width) throw new Error(`cell ${column} of the ruler is ${found} pixels wide at ${x},${top}, not ${cell.width}`);
  }
  return { left, top, cell };
}

/** The pixels of a cell. @throws Error when it is not on the screen */
function glyphAt({ width, height, pixels }: Picture, { left, top, cell }: Grid, column: number, row: number): string {
  const x = left + column * cell.width;
  const lines: string[] = [];
  for (let y = top + row * cell.height; y < top + (row + 1) * cell.height; y++) {
    if (x + cell.width > width || y >= height) throw new Error(`the cell ${column},${row} of the terminal is off the screen`);
    lines.push(pixels.subarray(y * width + x, y * width + x + cell.width).join());
  }
  return lines.join(';');
}
