/** The monitors that vGPU types come with (facts: gvt.md 4.2): one for each resolution of the type table. */
import { buildEdid, type MonitorDescription } from './edid.js';
import { TIMING_1024X768, TIMING_1920X1080, TIMING_1920X1200 } from './timings.js';

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

/** The EDID of the monitor with this resolution; the type table has no other. A fresh copy. */
export function monitorEdid({ width, height }: { readonly width: number; readonly height: number }): Uint8Array {
  return buildEdid(MONITORS[`${width}x${height}`] as MonitorDescription);
}
