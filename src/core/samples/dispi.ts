/**
 * The Bochs display interface ("VBE dispi"): eleven 16-bit registers that say which part of the video memory is shown (facts: gvt.md
 * 7.8; the names are those of Bochs' vbe.h).
 */
import { PIXEL_FORMATS } from '../pixels.js';

/** Registers, by index. */
export const Dispi = {
  ID: 0,
  XRES: 1,
  YRES: 2,
  BPP: 3,
  ENABLE: 4,
  BANK: 5,
  VIRT_WIDTH: 6,
  VIRT_HEIGHT: 7,
  X_OFFSET: 8,
  Y_OFFSET: 9,
  /** Video memory in units of 64 KiB; read-only. */
  VMEM: 10,
} as const;
export const DISPI_REGISTERS = 11;

/** Bits of ENABLE. Only ENABLED means something here: the framebuffer is always linear, and setting a mode never clears it. */
export const DispiEnable = { ENABLED: 1, GET_CAPS: 2, DAC_8BIT: 0x20, LINEAR: 0x40, NO_CLEAR: 0x80 } as const;

/** Versions of the interface that a driver may select by writing ID, oldest and newest. */
export const DISPI_ID0 = 0xb0c0;
export const DISPI_ID5 = 0xb0c5;

const VMEM_UNIT = 0x1_0000;
/** Pixels; smaller modes are no display. */
export const MIN_SIDE = 64;
const BPP = 32;

/** The framebuffer that the registers describe, wholly inside the video memory. */
export interface DisplayMode {
  readonly drmFormat: number;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  /** Bytes from row to row. */
  readonly stride: number;
  /** First byte that is shown, from the video memory's start. */
  readonly offset: number;
  /** Bytes: stride times height. */
  readonly size: number;
}

export class DispiRegisters {
  readonly #registers = new Uint16Array(DISPI_REGISTERS);
  readonly #memory: number;

  /** @param memory bytes of video memory */
  constructor(memory: number) {
    this.#memory = memory;
    this.reset();
  }

  /** @param index 0..10; 0 for others */
  read(index: number): number {
    return this.#registers[index] ?? 0;
  }

  /** Plain storage, but for ID, which takes the versions that exist, and VMEM, which takes nothing. */
  write(index: number, value: number): void {
    if (index === Dispi.VMEM || (index === Dispi.ID && (value < DISPI_ID0 || value > DISPI_ID5))) return;
    if (index < DISPI_REGISTERS) this.#registers[index] = value;
  }

  reset(): void {
    this.#registers.fill(0);
    this.#registers[Dispi.ID] = DISPI_ID5;
    this.#registers[Dispi.VMEM] = this.#memory / VMEM_UNIT;
  }

  /** The mode, or undefined: off, not 32 bits a pixel, smaller than 64x64, or past the end of the memory. */
  mode(): DisplayMode | undefined {
    const { bytes, fourcc } = PIXEL_FORMATS.XRGB8888;
    if ((this.read(Dispi.ENABLE) & DispiEnable.ENABLED) === 0 || this.read(Dispi.BPP) !== BPP) return undefined;
    const width = this.read(Dispi.XRES);
    const height = this.read(Dispi.YRES);
    if (width < MIN_SIDE || height < MIN_SIDE) return undefined;
    // Numbers, not 32-bit integers: 65535 rows of 262140 bytes pass 2^33.
    const stride = Math.max(width, this.read(Dispi.VIRT_WIDTH)) * bytes;
    const offset = this.read(Dispi.X_OFFSET) * bytes + this.read(Dispi.Y_OFFSET) * stride;
    const size = stride * height;
    return offset + size > this.#memory ? undefined : { drmFormat: fourcc, width, height, stride, offset, size };
  }
}
