/**
 * The picture that the guest draws, as blitter operations: solid fills (XY_COLOR_BLT) and copies (XY_SRC_COPY_BLT) that
 * build on what was drawn before. 1024 x 768, XRGB8888.
 */

export const CARD_WIDTH = 1024;
export const CARD_HEIGHT = 768;

/** Rectangle [x1, x2) x [y1, y2) in pixels, colour 0xRRGGBB. */
export interface Fill {
  readonly op: 'fill';
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
  readonly color: number;
}

/** Copies the rectangle at (sx, sy) to [x1, x2) x [y1, y2). */
export interface Copy {
  readonly op: 'copy';
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
  readonly sx: number;
  readonly sy: number;
}

export type Blit = Fill | Copy;

/** One group is submitted as one workload. */
export interface BlitGroup {
  readonly name: string;
  readonly blits: readonly Blit[];
}

const fill = (x1: number, y1: number, x2: number, y2: number, color: number): Fill => ({ op: 'fill', x1, y1, x2, y2, color });
const copy = (x1: number, y1: number, x2: number, y2: number, sx: number, sy: number): Copy => ({ op: 'copy', x1, y1, x2, y2, sx, sy });

const INK = 0xe8e8e8;
const PAPER = 0x20242c;
const BARS = [0xffffff, 0xf0e000, 0x00d8e8, 0x00c838, 0xd830d0, 0xe02828, 0x2848e8, 0x101010];

function background(): Blit[] {
  const blits: Blit[] = [fill(0, 0, CARD_WIDTH, CARD_HEIGHT, PAPER)];
  for (let x = 0; x < CARD_WIDTH; x += 64) blits.push(fill(x, 0, x + 1, CARD_HEIGHT, 0x404854));
  for (let y = 0; y < CARD_HEIGHT; y += 64) blits.push(fill(0, y, CARD_WIDTH, y + 1, 0x404854));
  // The outermost pixels, so that a lost row or column is seen.
  blits.push(fill(0, 0, CARD_WIDTH, 2, INK), fill(0, CARD_HEIGHT - 2, CARD_WIDTH, CARD_HEIGHT, INK));
  blits.push(fill(0, 0, 2, CARD_HEIGHT, INK), fill(CARD_WIDTH - 2, 0, CARD_WIDTH, CARD_HEIGHT, INK));
  return blits;
}

function bars(): Blit[] {
  const blits: Blit[] = BARS.map((color, i) => fill(128 + i * 96, 64, 128 + (i + 1) * 96, 224, color));
  for (let i = 0; i < 64; i++) blits.push(fill(128 + i * 12, 224, 128 + (i + 1) * 12, 272, ((i * 4) << 16) | ((i * 4) << 8) | (i * 4)));
  return blits;
}

/** A chequered strip: two tiles by fills, then copies that double it. */
function strip(): Blit[] {
  const [x, y, tile] = [128, 640, 16];
  const blits: Blit[] = [
    fill(x, y, x + 2 * tile, y + 2 * tile, 0x000000),
    fill(x, y, x + tile, y + tile, INK),
    fill(x + tile, y + tile, x + 2 * tile, y + 2 * tile, INK),
  ];
  for (let width = 2 * tile; width < 768; width *= 2) blits.push(copy(x + width, y, x + Math.min(2 * width, 768), y + 2 * tile, x, y));
  blits.push(copy(x, y + 2 * tile, x + 768, y + 4 * tile, x, y));
  return blits;
}

/** A ring of horizontal spans: every row is a fill of its own. */
function ring(cx: number, cy: number, outer: number, inner: number, color: number): Blit[] {
  const blits: Blit[] = [];
  const half = (radius: number, dy: number): number => (dy * dy > radius * radius ? -1 : Math.floor(Math.sqrt(radius * radius - dy * dy)));
  for (let dy = -outer; dy <= outer; dy++) {
    const wide = half(outer, dy);
    const narrow = half(inner, dy);
    if (narrow < 0) blits.push(fill(cx - wide, cy + dy, cx + wide + 1, cy + dy + 1, color));
    else
      blits.push(
        fill(cx - wide, cy + dy, cx - narrow, cy + dy + 1, color),
        fill(cx + narrow + 1, cy + dy, cx + wide + 1, cy + dy + 1, color),
      );
  }
  return blits;
}

/** Rows of 5-pixel letters, top bit left. */
const LETTERS: Readonly<Record<string, readonly number[]>> = {
  M: [0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001],
  P: [0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000],
  T: [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100],
};

function text(word: string, x: number, y: number, scale: number, color: number): Blit[] {
  const blits: Blit[] = [];
  [...word].forEach((letter, at) => {
    const rows = LETTERS[letter] as readonly number[];
    rows.forEach((bits, row) => {
      for (let column = 0; column < 5; column++) {
        if ((bits & (0b10000 >> column)) === 0) continue;
        const left = x + (at * 6 + column) * scale;
        blits.push(fill(left, y + row * scale, left + scale, y + (row + 1) * scale, color));
      }
    });
  });
  return blits;
}

/** The whole card, in drawing order. */
export function testCard(): BlitGroup[] {
  return [
    { name: 'background and grid', blits: background() },
    { name: 'colour bars and grey ramp', blits: bars() },
    { name: 'ring', blits: ring(512, 456, 152, 140, 0xf0a020) },
    { name: 'letters', blits: text('MPT', 412, 400, 12, INK) },
    { name: 'chequered strip by copies', blits: strip() },
  ];
}
