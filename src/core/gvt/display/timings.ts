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
