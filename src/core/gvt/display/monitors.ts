/** The monitors that vGPUs come with: those of the type table (facts: gvt.md 4.2), and one for any other resolution. */
import { type Connector, DEFAULT_CONNECTOR } from './connector.js';
import { buildEdid, type MonitorDescription } from './edid.js';
import { reducedBlanking, TIMING_1024X768, TIMING_1920X1080, TIMING_1920X1200 } from './timings.js';

export interface Resolution {
  /** Pixels. */
  readonly width: number;
  readonly height: number;
}

/** Sizes in pixels: of a mode that CVT names, and for whose picture a vGPU has memory. */
export const RESOLUTION_LIMITS = {
  width: { least: 640, most: 2560, step: 8 },
  height: { least: 480, most: 1600, step: 1 },
} as const;
/** A single DVI link carries no more, and drivers refuse what is above (DVI 1.0, 2.3.2). */
const LINK_KHZ = 165_000;

const COMMON = { manufacturer: 'MPT', year: 2024, dpi: 96 } as const;
/** 640x480 and 800x600 at 60 Hz in byte 35, 1024x768 at 60 Hz in byte 36 (E-EDID 3.8). */
const ESTABLISHED = [
  [35, 0x21],
  [36, 0x08],
] as const;

const MONITORS: Readonly<Record<string, MonitorDescription>> = {
  '1024x768': {
    ...COMMON,
    product: 0x1024,
    name: 'vGPU 1024x768',
    detailed: [TIMING_1024X768],
    standard: [],
    established: ESTABLISHED,
    range: { vertical: [59, 61], horizontal: [31, 49], clockMHz: 70 },
  },
  '1920x1200': {
    ...COMMON,
    product: 0x1920,
    name: 'vGPU1920x1200',
    detailed: [TIMING_1920X1200, TIMING_1920X1080],
    standard: [
      { width: 1600, height: 1200, hertz: 60 },
      { width: 1280, height: 1024, hertz: 60 },
      { width: 1280, height: 720, hertz: 60 },
    ],
    established: ESTABLISHED,
    range: { vertical: [59, 61], horizontal: [31, 76], clockMHz: 170 },
  },
};

/** Modes of VESA DMT that a monitor of another size shows as well. */
const SMALLER = [
  { width: 1600, height: 1200, hertz: 60 },
  { width: 1280, height: 1024, hertz: 60 },
  { width: 1280, height: 720, hertz: 60 },
] as const;
const ESTABLISHED_MODES = [
  [640, 480, 35, 0x20],
  [800, 600, 35, 0x01],
  [1024, 768, 36, 0x08],
] as const;

/** Why no monitor has this resolution, in a sentence; undefined when one has. */
export function resolutionFault({ width, height }: Resolution): string | undefined {
  for (const [name, value] of [
    ['width', width],
    ['height', height],
  ] as const) {
    const { least, most, step } = RESOLUTION_LIMITS[name];
    if (!Number.isInteger(value) || value < least || value > most || value % step !== 0)
      return `the resolution ${width}x${height} is none that a vGPU's monitor can have: its ${name} is ${value}`;
  }
  const { pixelClockKHz } = reducedBlanking(width, height);
  if (pixelClockKHz <= LINK_KHZ) return undefined;
  return `the resolution ${width}x${height} needs ${pixelClockKHz / 1000} MHz, and the monitor's link has ${LINK_KHZ / 1000}`;
}

/** The EDID of the monitor with this resolution, which has no `resolutionFault`. A fresh copy. */
export function monitorEdid({ width, height }: Resolution, connector: Connector = DEFAULT_CONNECTOR): Uint8Array {
  return buildEdid(MONITORS[`${width}x${height}`] ?? monitorOf(width, height), connector);
}

function monitorOf(width: number, height: number): MonitorDescription {
  const native = reducedBlanking(width, height);
  const fits = (mode: { readonly width: number; readonly height: number }): boolean => mode.width <= width && mode.height <= height;
  const name = `vGPU ${width}x${height}`;
  const lineKHz = native.pixelClockKHz / (width + native.horizontalBlank);
  const bits = new Map<35 | 36, number>();
  for (const [w, h, offset, bit] of ESTABLISHED_MODES) if (fits({ width: w, height: h })) bits.set(offset, (bits.get(offset) ?? 0) | bit);
  return {
    ...COMMON,
    // Unlike for unlike sizes, as drivers keep settings by it.
    product: ((width / 8) << 7) ^ height,
    // A monitor's name has 13 letters at most.
    name: name.length <= 13 ? name : name.replace(' ', ''),
    detailed: [native],
    standard: SMALLER.filter((mode) => fits(mode) && !(mode.width === width && mode.height === height)),
    established: [...bits],
    range: { vertical: [59, 61], horizontal: [31, Math.max(48, Math.ceil(lineKHz) + 1)], clockMHz: LINK_KHZ / 1000 },
  };
}
