/**
 * Display engine registers of pipes A-C (facts: gvt.md 4.8, 4.14, 4.18; i915.md). The picture is taken from the
 * programmed plane when somebody asks for it (display/primary-plane.ts); here the registers only answer as a driver
 * expects.
 *
 * No monitor is presented: the display is fused off, which makes i915 a render-only driver. A guest that programs a pipe
 * all the same gets its plane shown.
 */
import { Status } from '../gvt-ops.js';
import type { RegisterContext } from './register-context.js';
import type { AfterHandler, ReadHandler, RegisterDefinition } from './registers.js';
import type { GvtEvent } from './roles.js';

/** Bytes between the register blocks of two pipes. */
const PIPE_STRIDE = 0x1000;
export const PIPES = 3;
const PIPECONF = 0x7_0008;
const PIPE_ENABLE = 0x8000_0000;
const PIPE_ACTIVE = 0x4000_0000;
const VTOTAL = 0x6_000c;
const DSPSURF = 0x7_019c;
const SURFLIVE_FROM_SURF = 0x10;
const FLIPCOUNT_FROM_PIPE = 0x44;
/** The virtual monitor's refresh rate. */
export const REFRESH_HZ = 60;
/** Lines of 1024x768 at 60 Hz, until the guest programs a mode. */
const DEFAULT_LINES = 806;

/** Pipe that a register of the 0x7x000 blocks belongs to: 0, 1 or 2. */
const pipeOf = (offset: number): number => (offset >>> 12) & 3;
/** Base of that pipe's block. */
const pipeBase = (offset: number): number => offset & ~(PIPE_STRIDE - 1);

/** Frames since the clock's start, with fraction. */
export const frames = (nowNs: number): number => (nowNs * REFRESH_HZ) / 1e9;

export const pipeEnabled = ({ registers }: Pick<RegisterContext, 'registers'>, pipe: number): boolean =>
  (registers.get(PIPECONF + pipe * PIPE_STRIDE) & PIPE_ENABLE) !== 0;

/** Line that the beam is at; stands still with the pipe off. */
const scanline: ReadHandler = (context, offset) => {
  const pipe = pipeOf(offset);
  if (!pipeEnabled(context, pipe)) return 0;
  const programmed = (context.registers.get(VTOTAL + pipe * PIPE_STRIDE) >>> 16) & 0x1fff;
  const lines = programmed === 0 ? DEFAULT_LINES : programmed + 1;
  const now = frames(context.now());
  return Math.floor((now - Math.floor(now)) * lines);
};

const frameCount: ReadHandler = (context, offset) =>
  pipeEnabled(context, pipeOf(offset)) ? Math.floor(frames(context.now())) % 2 ** 32 : context.registers.get(offset);

const pipeConf: AfterHandler = ({ registers }, offset) => {
  const value = registers.get(offset);
  registers.set(offset, (value & PIPE_ENABLE) !== 0 ? value | PIPE_ACTIVE : value & ~PIPE_ACTIVE);
  return Status.OK;
};

const FLIPS = ['pipe-a.flip', 'pipe-b.flip', 'pipe-c.flip'] as const satisfies readonly GvtEvent[];

/** The plane is read when it is shown, so a flip is done when its address is stored. */
const flip: AfterHandler = ({ registers, interrupts }, offset) => {
  const count = pipeBase(offset) + FLIPCOUNT_FROM_PIPE;
  registers.set(offset + SURFLIVE_FROM_SURF, registers.get(offset));
  registers.set(count, registers.get(count) + 1);
  interrupts.raise(FLIPS[pipeOf(offset)] as GvtEvent);
  return Status.OK;
};

/** DDI buffer: idle (7) while not enabled (31). */
const ddiBuffer: AfterHandler = ({ registers }, offset) => {
  const value = registers.get(offset);
  registers.set(offset, (value & (1 << 31)) === 0 ? value | 0x80 : value & ~0x80);
  return Status.OK;
};

/** AUX channel with nothing on it: a message that is sent (31) is done (30) with a timeout (28). Status bits clear by 1. */
const AUX_SEND = 0x8000_0000;
const AUX_STATUS = 0x5200_0000;
const AUX_DONE_TIMEOUT = 0x5000_0000;
export const auxChannel: AfterHandler = ({ registers }, offset, raw, _unit, old) => {
  const status = (raw & AUX_SEND) !== 0 ? AUX_DONE_TIMEOUT : old & AUX_STATUS & ~raw;
  registers.set(offset, (raw & ~(AUX_SEND | AUX_STATUS)) | status);
  return Status.OK;
};

const perPipe = { count: PIPES, stride: PIPE_STRIDE } as const;
const PORTS = 5;

export const DISPLAY_REGISTERS: readonly RegisterDefinition[] = [
  // Bit 30: display engine fused off.
  { name: 'FUSE_STRAP', offset: 0x4_2014, reset: 0x4000_0000, writable: 0 },
  { name: 'PORT_CLK_SEL', offset: 0x4_6100, count: PORTS, reset: 0xe000_0000 },
  { name: 'LGC_PALETTE_A', offset: 0x4_a000, count: 256, unaligned: true },
  { name: 'LGC_PALETTE_B', offset: 0x4_a800, count: 256, unaligned: true },
  { name: 'LGC_PALETTE_C', offset: 0x4_b000, count: 256, unaligned: true },
  { name: 'DDI_BUF_CTL', offset: 0x6_4000, count: PORTS, stride: 0x100, reset: 0x80, after: ddiBuffer },
  { name: 'DPA_AUX_CH_CTL', offset: 0x6_4010, after: auxChannel },
  { name: 'EDP_PSR_IIR', offset: 0x6_4838, writable: 0, clearable: 0xffff_ffff },
  { name: 'PIPEDSL', offset: 0x7_0000, ...perPipe, writable: 0, read: scanline },
  { name: 'PIPECONF', offset: PIPECONF, ...perPipe, after: pipeConf },
  { name: 'PIPE_FRMCOUNT', offset: 0x7_0040, ...perPipe, writable: 0, read: frameCount },
  { name: 'PIPE_FLIPCOUNT', offset: 0x7_0000 + FLIPCOUNT_FROM_PIPE, ...perPipe },
  { name: 'DSPSURF', offset: DSPSURF, ...perPipe, after: flip },
  { name: 'DSPSURFLIVE', offset: DSPSURF + SURFLIVE_FROM_SURF, ...perPipe, writable: 0 },
];
