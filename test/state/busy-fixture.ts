/** A vGPU on the small backend with something of everything in it: what its saved state has to hold. */
import { type Connector, DEFAULT_CONNECTOR } from '../../src/core/gvt/display/connector.js';
import { ENGINE_BASES, storeDword } from '../gvt/engine-rig.js';
import { type Fixture, fixture } from '../gvt/memory-backend.js';

const PAGE = 4096;
const [RCS, BCS, VCS, VECS] = ENGINE_BASES;
/** Guest frames, mapped from the aperture's start on. */
const FRAME = { STATUS: 16, CONTEXTS: 24, RINGS: 48, DATA: 64, BATCH: 80, PICTURE: 128, TABLES: 1024 } as const;
const MAPPED = 1024;
const SEMAPHORE_WAIT_EQUAL = 0x0e40_c002;
export const SIGNAL = 0x5160;
/** More than two submissions execute at once, at a unit a row. */
const LONG_ROWS = 20_000;
const BPP32 = 3 << 24;
const MONITOR_ROWS = 2000;

/** What the blitter stands in. */
export const BLITS = ['fill', 'copy', 'pattern', 'tiled-rop', 'bytes'] as const;
export type BlitName = (typeof BLITS)[number];

export interface Busy extends Fixture {
  /** Lets the semaphore of RCS go. */
  signal(): void;
}

export function busy(blit: BlitName = 'fill', display = true, connector: Connector = DEFAULT_CONNECTOR): Busy {
  const f = fixture({ display, connector });
  const { words } = f.backend;
  const base = f.vgpu.resources.aperture.start;
  const gpu = (frame: number): number => base + frame * PAGE;
  const put = (frame: number, ...dwords: number[]): void => words.set(dwords, frame * 1024);
  f.read(0x7_8000);
  f.map(base, 0, MAPPED);
  // Entries of which one half has come.
  f.write(0x80_0000 + (base / PAGE + MAPPED) * 8, 0x1234_5001);
  f.write(0x80_0000 + (base / PAGE + MAPPED + 2) * 8 + 4, 0x2a);
  f.write(0x80_0000 + (base / PAGE + MAPPED + 4) * 8, (5 * PAGE) | 2);
  f.write(0x80_0000 + (base / PAGE + MAPPED + 4) * 8 + 4, 0);
  for (const [i, engine] of ENGINE_BASES.entries()) {
    f.write(engine + 0x80, gpu(FRAME.STATUS + i));
    f.write(engine + 0xa8, 0);
    f.write(engine + 0x29c, 0x8000_8000);
  }
  f.configWrite(0x94, 4, 0xfee0_0000);
  f.configWrite(0x98, 2, 0x41);
  f.configWrite(0x92, 2, 1);
  for (const group of [0x4_4300, 0x4_4310, 0x4_4330]) {
    f.write(group + 4, 0);
    f.write(group + 12, 0xffff_ffff);
  }
  f.write(0x4_4200, 0x8000_0000);
  announce(f);

  /** A context with commands in its ring. @returns its descriptor */
  const context = (id: number, commands: readonly number[], extra: readonly (readonly [offset: number, value: number])[] = []): number => {
    const image = (FRAME.CONTEXTS + id * 2 + 1) * 1024;
    put(FRAME.RINGS + id, ...commands);
    words[image + 0x14 / 4] = 0;
    words[image + 0x1c / 4] = commands.length * 4;
    words[image + 0x24 / 4] = gpu(FRAME.RINGS + id);
    words[image + 0x2c / 4] = 1;
    for (const [offset, value] of extra) words[image + offset / 4] = value;
    return gpu(FRAME.CONTEXTS + id * 2) | 0x109;
  };
  const submit = (engine: number, ...elements: readonly (readonly [id: number, descriptor: number])[]): void => {
    const [first, second] = [elements[0] as readonly [number, number], elements[1] ?? [0, 0]];
    for (const dword of [...second, ...first]) f.write(engine + 0x230, dword);
  };
  const store = (word: number, value: number): number[] => storeDword(gpu(FRAME.DATA) + word * 4, value);

  // RCS: in the context's own batch, which waits; behind it another context, and more of that one in the other slot.
  put(FRAME.BATCH, ...store(0, 1), SEMAPHORE_WAIT_EQUAL, SIGNAL, gpu(FRAME.DATA) + 4 * 100, 0, ...store(1, 2), 0x0500_0000, 0);
  const first = context(
    0,
    [...store(2, 3), 0x0100_0000],
    [
      [0x64, gpu(FRAME.BATCH) | 1],
      [0x6c, gpu(FRAME.BATCH + 1) | 1],
    ],
  );
  const second = context(1, store(3, 4));
  submit(RCS, [10, first], [11, second]);
  context(1, [...store(3, 4), ...store(4, 5)]);
  submit(RCS, [11, second]);

  // BCS: a clipping rectangle, then the blit that takes longer than its submission; another list behind it.
  const swctrl = 0x0003_0003;
  f.write(BCS + 0x200, swctrl);
  const blitter = context(2, [0x40c0_0001, (8 << 16) | 4, (0x7fff << 16) | 1024, ...blitOf(blit, gpu), ...store(5, 6), 0x0100_0000]);
  submit(BCS, [12, blitter]);
  // What the blit found there counts, not what is there now.
  f.write(BCS + 0x200, 0x0003_0000);
  submit(BCS, [13, context(3, store(6, 7))]);

  // VCS: a second-level batch that waits inside a first-level one. VECS: stopped by a bad command, and half a submission.
  put(FRAME.BATCH + 2, 0x18c0_0001, gpu(FRAME.BATCH + 3), 0, ...store(7, 8), 0x0500_0000);
  put(FRAME.BATCH + 3, SEMAPHORE_WAIT_EQUAL, SIGNAL, gpu(FRAME.DATA) + 4 * 100, 0, ...store(8, 9), 0x0500_0000);
  submit(VCS, [14, context(4, [0x1880_0001, gpu(FRAME.BATCH + 2), 0, 0x0100_0000])]);
  submit(VECS, [15, context(5, [0x1180_0000])]);
  for (const dword of [0, 0, 99]) f.write(VECS + 0x230, dword);
  f.write(RCS + 0x3a0, 0x0700_0100);

  if (display) showing(f, gpu);
  return Object.assign(f, {
    signal: () => {
      words[FRAME.DATA * 1024 + 100] = SIGNAL;
    },
  });
}

/** Roots of page tables, one of them twice. */
function announce(f: Fixture): void {
  const at = 0x7_8000;
  const notify = (code: number, ...frames: number[]): void => {
    for (const [i, frame] of frames.entries()) {
      f.write(at + 0x838 + i * 8, frame * PAGE);
      f.write(at + 0x838 + i * 8 + 4, 0);
    }
    f.write(at + 0x818, code);
  };
  notify(4, FRAME.TABLES);
  notify(4, FRAME.TABLES);
  notify(4, FRAME.TABLES + 1);
  notify(2, FRAME.TABLES + 2, FRAME.TABLES + 3, 0, FRAME.TABLES + 4);
  f.write(0x10_0000, 0x0123_4001);
  f.write(0x10_0004, 0x0678_9000);
}

function blitOf(name: BlitName, gpu: (frame: number) => number): number[] {
  const [to, from] = [gpu(FRAME.PICTURE), gpu(FRAME.PICTURE + 200)];
  const area = (rows: number): number[] => [0, (rows << 16) | 256];
  switch (name) {
    case 'fill':
      return [0x5430_0005, (BPP32 | (0xf0 << 16) | 128) >>> 0, ...area(LONG_ROWS), to, 0, 0x00c0_ffee];
    case 'copy':
      return [0x54f0_0008, (BPP32 | (0xcc << 16) | 128) >>> 0, ...area(LONG_ROWS), to, 0, 0, 128, from, 0];
    case 'pattern':
      return [0x5450_0006 | (3 << 20), ((1 << 30) | BPP32 | (0xf0 << 16) | 128) >>> 0, ...area(LONG_ROWS), to, 0, gpu(FRAME.PICTURE), 0];
    case 'tiled-rop':
      // Both surfaces tiled in Y by SWCTRL, source xor destination, clipped.
      return [0x54f0_8808, ((1 << 30) | BPP32 | (0x66 << 16) | 256) >>> 0, 0, (1000 << 16) | 256, to, 0, 0, 256, from, 0];
    case 'bytes':
      return [0x5000_0004, ((0xf0 << 16) | 128) >>> 0, (LONG_ROWS << 16) | 512, to, 0, 0x5a5a_5a5a];
  }
}

/** Pipe A is on, a flip and an update of its plane are under way; the monitor is away for a while; a message passes over GMBUS. */
function showing(f: Fixture, gpu: (frame: number) => number): void {
  f.write(0xc_5100, 5);
  f.write(0xc_510c, 3);
  f.write(0xc_5104, (0x4200_0000 | (1 << 16) | (0x50 << 1)) >>> 0);
  f.write(0xc_5104, (0x4200_0000 | (100 << 16) | (0x50 << 1) | 1) >>> 0);
  f.read(0xc_510c);
  f.read(0xc_5108);
  f.write(0x6_000c, (MONITOR_ROWS - 1) << 16);
  f.write(0x7_0008, 0x8000_0000);
  f.time.ns += 40e6;
  f.gvt.runSlice(1);
  f.read(0x7_0040);
  f.write(0x7_0180, 0x8000_0000 | (6 << 26));
  f.write(0x7_0188, 4096);
  f.write(0x7_019c, gpu(FRAME.PICTURE));
  f.write(0x7_029c, gpu(FRAME.PICTURE + 1));
  f.gvt.emulateHotplug(f.vgpu, false);
  f.time.ns += 10e6;
  f.gvt.emulateHotplug(f.vgpu, true);
}
