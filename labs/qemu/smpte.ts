/**
 * The colour bars that modetest draws on a plane (libdrm, tests/util/pattern.c, whose shape is SMPTE EG 1): seven bars, a row of them in
 * reverse, and at the bottom the PLUGE.
 */
type Colours = readonly number[];

const TOP: Colours = [0xc0c0c0, 0xc0c000, 0x00c0c0, 0x00c000, 0xc000c0, 0xc00000, 0x0000c0];
const MIDDLE: Colours = [0x0000c0, 0x131313, 0xc000c0, 0x131313, 0x00c0c0, 0x131313, 0xc0c0c0];
/** In-phase, white, quadrature, black over five bars' width; three shades of black over one; black. */
const BOTTOM: Colours = [0x00214c, 0xffffff, 0x32006a, 0x131313];
const PLUGE: Colours = [0x090909, 0x131313, 0x1d1d1d];
const BLACK = 0x131313;

/** The pixel at `x`, `y` of a picture of this size, as `0xRRGGBB`. */
export function smptePixel(width: number, height: number, x: number, y: number): number {
  const bar = (colours: Colours): number => colours[Math.floor((x * 7) / width)] as number;
  if (y < Math.floor((height * 6) / 9)) return bar(TOP);
  if (y < Math.floor((height * 7) / 9)) return bar(MIDDLE);
  const [five, six] = [Math.floor((width * 5) / 7), Math.floor((width * 6) / 7)];
  if (x < five) return BOTTOM[Math.floor((x * 4) / five)] as number;
  if (x < six) return PLUGE[Math.floor(((x - five) * 3) / Math.floor(width / 7))] ?? BLACK;
  return BLACK;
}
