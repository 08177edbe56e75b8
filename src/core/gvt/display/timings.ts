/** Timings of the monitors that vGPUs have, with the names of the standards that define them. */

/** One mode. Horizontal values in pixels, vertical ones in lines; blanking is front porch, sync pulse and back porch together. */
export interface Timing {
  readonly pixelClockKHz: number;
  readonly width: number;
  readonly horizontalFront: number;
  readonly horizontalSync: number;
  readonly horizontalBlank: number;
  readonly height: number;
  readonly verticalFront: number;
  readonly verticalSync: number;
  readonly verticalBlank: number;
  /** Polarity of the sync pulses: positive. */
  readonly horizontalPositive: boolean;
  readonly verticalPositive: boolean;
}

const timing = (
  pixelClockKHz: number,
  [width, horizontalFront, horizontalSync, horizontalBlank]: readonly [number, number, number, number],
  [height, verticalFront, verticalSync, verticalBlank]: readonly [number, number, number, number],
  [horizontalPositive, verticalPositive]: readonly [boolean, boolean],
): Timing => ({
  pixelClockKHz,
  width,
  horizontalFront,
  horizontalSync,
  horizontalBlank,
  height,
  verticalFront,
  verticalSync,
  verticalBlank,
  horizontalPositive,
  verticalPositive,
});

/** VESA DMT 1.0 rev. 13, id 0x10: 60.004 Hz. */
export const TIMING_1024X768 = timing(65_000, [1024, 24, 136, 320], [768, 3, 6, 38], [false, false]);
/** The same, id 0x44, reduced blanking: 59.950 Hz. A single DVI link carries it. */
export const TIMING_1920X1200 = timing(154_000, [1920, 48, 32, 160], [1200, 3, 6, 35], [true, false]);
/** CEA-861, code 16: 60 Hz. */
export const TIMING_1920X1080 = timing(148_500, [1920, 88, 44, 280], [1080, 4, 5, 45], [true, true]);

/** Constants of reduced blanking, version 1 (VESA CVT 1.2, section 3.5), in pixels, lines, kHz and microseconds. */
const REDUCED = { FRONT: 48, SYNC: 32, BLANK: 160, LINES_FRONT: 3, LINES_BACK_MIN: 6, BLANK_US: 460, CLOCK_STEP_KHZ: 250 } as const;
/** Vertical sync pulse by aspect ratio; it tells monitors which ratio is meant. */
const SYNC_LINES = [
  [4 / 3, 4],
  [16 / 9, 5],
  [16 / 10, 6],
  [5 / 4, 7],
  [15 / 9, 7],
] as const;
const SYNC_LINES_OTHER = 10;

/** The mode of this size at about 60 Hz, by the formula of VESA CVT 1.2 with reduced blanking. @param width a multiple of 8 */
export function reducedBlanking(width: number, height: number): Timing {
  const sync = SYNC_LINES.find(([ratio]) => Math.round((height * ratio) / 8) * 8 === width)?.[1] ?? SYNC_LINES_OTHER;
  const lineUs = (1e6 / 60 - REDUCED.BLANK_US) / height;
  const least = REDUCED.LINES_FRONT + sync + REDUCED.LINES_BACK_MIN;
  const blank = Math.max(Math.floor(REDUCED.BLANK_US / lineUs) + 1, least);
  const clock = (60 * (height + blank) * (width + REDUCED.BLANK)) / 1000;
  return timing(
    Math.floor(clock / REDUCED.CLOCK_STEP_KHZ) * REDUCED.CLOCK_STEP_KHZ,
    [width, REDUCED.FRONT, REDUCED.SYNC, REDUCED.BLANK],
    [height, REDUCED.LINES_FRONT, sync, blank],
    [true, false],
  );
}
