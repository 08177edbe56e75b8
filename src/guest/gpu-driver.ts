/**
 * The guest's side of the main job: a small graphics driver whose every access is an instruction of the guest agent. It
 * knows the device only through PCI, its BARs and guest memory, as a driver in a VM would.
 *
 * Order of work, as i915 does it on a vGPU (facts: gvt.md 8.3-8.6): PCI enumeration, BAR sizing, PVINFO, MSI,
 * interrupt enables, GGTT, status page, execlist mode, contexts, submissions, display.
 */
import { type Bdf, bdf, PAGE_SIZE } from '../core/addresses.js';
import { MptError } from '../core/errors.js';
import type { GuestAgent } from './agent.js';
import { batchOf, MI } from './gpu-commands.js';
import type { BlitGroup } from './test-card.js';

/** PCI configuration registers (PCI Local Bus Specification 3.0, 6.1). */
const CFG = { ID: 0x00, COMMAND: 0x04, CLASS: 0x08, BAR: 0x10, CAPABILITIES: 0x34 } as const;
const COMMAND_MEMORY_MASTER = 0x6;
const MSI_CAPABILITY = 0x05;
const MSI_ADDRESS = 0xfee0_0000;
/** Vector that the guest programs; any from 32 up. */
const MSI_VECTOR = 0x41;

/** Offsets in BAR0 (facts: gvt.md 4.5, 4.8, 4.14, 4.15). */
const REG = {
  PVINFO: 0x7_8000,
  MASTER_IRQ: 0x4_4200,
  GT0_IMR: 0x4_4304,
  GT0_IIR: 0x4_4308,
  GT0_IER: 0x4_430c,
  GGTT: 0x80_0000,
  PIPE_SRC: 0x6_001c,
  PIPE_CONF: 0x7_0008,
  DSP_CNTR: 0x7_0180,
  DSP_STRIDE: 0x7_0188,
  DSP_SURF: 0x7_019c,
} as const;

/** The blitter engine's block. */
const BCS = { BASE: 0x2_2000, HWS_PGA: 0x80, MODE: 0x29c, ELSP: 0x230, IMR: 0xa8 } as const;
/** BCS user interrupt and context switch in GT0. */
const BCS_EVENTS = (1 << 16) | (1 << 24);

const PVINFO_MAGIC = [0x7654_4776, 0x4776_5447] as const;

/** Guest-physical layout of what the GPU uses, mapped page by page into the aperture in this order. */
const LAYOUT = {
  BASE: 0x10_0000,
  STATUS: 0x10_0000,
  CONTEXT: 0x10_1000,
  RING: 0x10_4000,
  FENCE: 0x10_5000,
  BATCH: 0x11_0000,
  FRAMEBUFFER: 0x20_0000,
} as const;
const BATCH_BYTES = LAYOUT.FRAMEBUFFER - LAYOUT.BATCH;

/** BARs are placed in the guest's address space between these, naturally aligned. */
const MMIO_HOLE = { START: 0xc000_0000, END: 0xfe00_0000 } as const;

export interface BarInfo {
  readonly address: number;
  readonly size: number;
}

export interface DeviceInfo {
  /** `8086:1616`, as lspci prints it. */
  readonly id: string;
  readonly vendor: number;
  readonly device: number;
  readonly bdf: string;
  readonly bar0: BarInfo;
  readonly bar2: BarInfo;
  readonly vgpuId: number;
  readonly aperture: BarInfo;
  readonly hidden: BarInfo;
  readonly fences: number;
}

/** First byte of guest RAM that `GpuDriver` uses. */
export const DRIVER_GPA: number = LAYOUT.BASE;
/** Guest RAM, counted from 0, that `GpuDriver` needs for a framebuffer of this size. */
export const requiredRam = (width: number, height: number): number => LAYOUT.FRAMEBUFFER + width * height * 4;

export class GpuDriver {
  readonly #agent: GuestAgent;
  readonly #width: number;
  readonly #height: number;
  #bdf: Bdf | undefined;
  #bar0 = 0;
  #aperture = 0;
  #ringTail = 0;
  #seqno = 0;
  #contextReady = false;

  constructor(agent: GuestAgent, width: number, height: number) {
    this.#agent = agent;
    this.#width = width;
    this.#height = height;
  }

  /** Vector under which the guest's handler counts the device's interrupts. */
  readonly vector = MSI_VECTOR;

  /** Finds the display controller on bus 0, sizes and places its BARs, enables it, reads PVINFO and programs the MSI. */
  probe(): DeviceInfo {
    const found = this.#enumerate();
    const { vendor, device } = found;
    this.#bdf = found.at;
    const [bar0, bar2] = this.#placeBars(found.at);
    this.#bar0 = bar0.address;
    this.#config(CFG.COMMAND, 2, COMMAND_MEMORY_MASTER);
    const pvinfo = this.#readPvinfo();
    this.#programMsi();
    const id = [vendor, device].map((word) => word.toString(16).padStart(4, '0')).join(':');
    return { id, vendor, device, bdf: `00:${(found.at >> 3).toString(16).padStart(2, '0')}.0`, bar0, bar2, ...pvinfo };
  }

  /** Fills the GGTT, sets up the status page, interrupts and execlist mode of the blitter. */
  start(): void {
    const pages = Math.ceil((requiredRam(this.#width, this.#height) - LAYOUT.BASE) / PAGE_SIZE);
    const entries = new Uint32Array(pages * 2);
    for (let page = 0; page < pages; page++) entries[page * 2] = (LAYOUT.BASE + page * PAGE_SIZE) | 1;
    this.#agent.stream64(this.#bar0 + REG.GGTT + (this.#aperture / PAGE_SIZE) * 8, entries);
    this.#register(BCS.BASE + BCS.HWS_PGA, this.#gpu(LAYOUT.STATUS));
    this.#register(BCS.BASE + BCS.IMR, 0);
    this.#register(REG.GT0_IMR, ~BCS_EVENTS >>> 0);
    this.#register(REG.GT0_IER, BCS_EVENTS);
    this.#register(REG.MASTER_IRQ, 0x8000_0000);
    // Masked write: enable bit 15, RUN_LIST_ENABLE.
    this.#register(BCS.BASE + BCS.MODE, 0x8000_8000);
  }

  /**
   * Writes the group's commands to the batch, submits it and sleeps until the fence interrupt came.
   * @returns the fence value read back by the guest
   */
  draw(group: BlitGroup): number {
    const commands = batchOf(group.blits, this.#gpu(LAYOUT.FRAMEBUFFER), this.#width * 4);
    if (commands.length * 4 > BATCH_BYTES)
      throw new MptError('LIMIT', `the batch '${group.name}' does not fit`, { op: 'draw', size: commands.length * 4, limit: BATCH_BYTES });
    this.#agent.stream(LAYOUT.BATCH, commands);
    const seqno = ++this.#seqno;
    const seen = this.#agent.interruptCount(MSI_VECTOR);
    this.#submit([
      MI.BATCH_BUFFER_START_GGTT,
      this.#gpu(LAYOUT.BATCH),
      0,
      MI.FLUSH_DW_STORE,
      this.#gpu(LAYOUT.FENCE) | MI.FLUSH_DW_GGTT,
      0,
      seqno,
      MI.USER_INTERRUPT,
      MI.NOOP,
      MI.NOOP,
    ]);
    let wanted = seen;
    do this.#agent.waitInterrupt(MSI_VECTOR, ++wanted);
    while (this.#acknowledge() && this.fence() !== seqno);
    return this.fence();
  }

  /** The fence value in guest memory, loaded by the guest. */
  fence(): number {
    return this.#agent.read(LAYOUT.FENCE, 4);
  }

  /** Points pipe A's primary plane at the framebuffer. */
  show(): void {
    this.#register(REG.PIPE_SRC, ((this.#width - 1) << 16) | (this.#height - 1));
    this.#register(REG.DSP_STRIDE, this.#width * 4);
    this.#register(REG.PIPE_CONF, 0x8000_0000);
    // Enable, format BGRX8888 (XRGB8888 in DRM's order) = 6 in bits 29:26.
    this.#register(REG.DSP_CNTR, (0x8000_0000 | (6 << 26)) >>> 0);
    this.#register(REG.DSP_SURF, this.#gpu(LAYOUT.FRAMEBUFFER));
  }

  /** Reads and clears the pending GT0 events. @returns true always, for use in a loop condition */
  #acknowledge(): boolean {
    const pending = this.#agent.read(this.#bar0 + REG.GT0_IIR, 4);
    this.#register(REG.GT0_IIR, pending);
    return true;
  }

  #enumerate(): { at: Bdf; vendor: number; device: number } {
    for (let device = 0; device < 32; device++) {
      const at = bdf(0, device, 0);
      const id = this.#agent.pciRead(at, CFG.ID, 4);
      if (id === 0xffff_ffff) continue;
      // Base class 3: display controller.
      if (this.#agent.pciRead(at, CFG.CLASS, 4) >>> 24 === 3) return { at, vendor: id & 0xffff, device: id >>> 16 };
    }
    throw new MptError('GUEST_FAULT', 'the guest found no display controller on PCI bus 0', { op: 'probe' });
  }

  /** BAR0 and BAR2, both 64-bit memory BARs: size by all-ones, then an address from the top of the hole down. */
  #placeBars(at: Bdf): [BarInfo, BarInfo] {
    let top: number = MMIO_HOLE.END;
    const place = (register: number): BarInfo => {
      this.#agent.pciWrite(at, register, 4, 0xffff_ffff);
      const size = (~(this.#agent.pciRead(at, register, 4) & ~0xf) >>> 0) + 1;
      const address = Math.floor((top - size) / size) * size;
      if (size < PAGE_SIZE || address < MMIO_HOLE.START)
        throw new MptError('LIMIT', `the BAR at register 0x${register.toString(16)} does not fit below 4 GiB`, { op: 'probe', size });
      this.#agent.pciWrite(at, register, 4, address);
      this.#agent.pciWrite(at, register + 4, 4, 0);
      top = address;
      return { address, size };
    };
    return [place(CFG.BAR), place(CFG.BAR + 8)];
  }

  #readPvinfo(): Pick<DeviceInfo, 'vgpuId' | 'aperture' | 'hidden' | 'fences'> {
    const at = this.#bar0 + REG.PVINFO;
    const magic = this.#agent.read64(at);
    if (magic.lo !== PVINFO_MAGIC[0] || magic.hi !== PVINFO_MAGIC[1])
      throw new MptError('GUEST_FAULT', 'PVINFO has the wrong magic: this is no vGPU', { op: 'probe', address: at });
    const field = (offset: number): number => this.#agent.read(at + offset, 4);
    const aperture = { address: field(0x40), size: field(0x44) };
    this.#aperture = aperture.address;
    const need = requiredRam(this.#width, this.#height) - LAYOUT.BASE;
    if (aperture.size < need)
      throw new MptError('NO_SPACE', 'the aperture is too small for the picture', { op: 'probe', size: need, limit: aperture.size });
    return { vgpuId: field(0x0c), aperture, hidden: { address: field(0x48), size: field(0x4c) }, fences: field(0x50) };
  }

  #programMsi(): void {
    let at = this.#agent.pciRead(this.#at, CFG.CAPABILITIES, 1);
    // The list cannot be longer than the space after the header holds 4-byte entries.
    for (let hops = 0; hops < 48 && at !== 0; hops++) {
      if (this.#agent.pciRead(this.#at, at, 1) === MSI_CAPABILITY) {
        this.#config(at + 4, 4, MSI_ADDRESS);
        this.#config(at + 8, 2, MSI_VECTOR);
        this.#config(at + 2, 2, 1);
        return;
      }
      at = this.#agent.pciRead(this.#at, at + 1, 1);
    }
    throw new MptError('GUEST_FAULT', 'the device has no MSI capability', { op: 'probe' });
  }

  /** Appends commands to the ring, moves the tail in the context image and writes the submission port. */
  #submit(commands: readonly number[]): void {
    const bytes = commands.length * 4;
    if (this.#ringTail + bytes > PAGE_SIZE) throw new MptError('LIMIT', 'the ring is full', { op: 'submit', limit: PAGE_SIZE });
    this.#agent.stream(LAYOUT.RING + this.#ringTail, commands);
    this.#ringTail += bytes;
    // The ring state is the page after the context's first (facts: gvt.md 4.12): values of head, tail, start, control.
    const state = LAYOUT.CONTEXT + PAGE_SIZE;
    if (!this.#contextReady) {
      this.#agent.write(state + 0x14, 4, 0);
      this.#agent.write(state + 0x24, 4, this.#gpu(LAYOUT.RING));
      this.#agent.write(state + 0x2c, 4, 1);
      this.#contextReady = true;
    }
    this.#agent.write(state + 0x1c, 4, this.#ringTail);
    // Valid, 32-bit PPGTT addressing mode (unused: every address is a GGTT address), privileged.
    const descriptor = this.#gpu(LAYOUT.CONTEXT) | (1 << 8) | (1 << 3) | 1;
    const port = BCS.BASE + BCS.ELSP;
    for (const dword of [0, 0, 1, descriptor]) this.#register(port, dword);
  }

  /** GPU address of a guest page that `start()` maps. */
  #gpu(gpa: number): number {
    return this.#aperture + (gpa - LAYOUT.BASE);
  }

  #register(offset: number, value: number): void {
    this.#agent.write(this.#bar0 + offset, 4, value);
  }

  get #at(): Bdf {
    if (this.#bdf === undefined) throw new MptError('INTERNAL', 'probe() was not called');
    return this.#bdf;
  }

  #config(register: number, size: 1 | 2 | 4, value: number): void {
    this.#agent.pciWrite(this.#at, register, size, value);
  }
}
