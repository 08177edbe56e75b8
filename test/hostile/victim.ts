/** The other guest: its RAM and GGTT must stay as they are byte for byte, and its work must go on. */
import type { SimBackend } from '../../src/backends/sim/backend.js';
import type { SimMachine } from '../../src/backends/sim/machine.js';
import { Bdf, type Gpa } from '../../src/core/addresses.js';
import type { Gvt } from '../../src/core/gvt/gvt.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';

const PAGE = 4096;
const RAM_BYTES = 0x10_0000;
const BAR0 = 0xe000_0000;
const BCS = 0x2_2000;
/** Frames. */
const [STATUS, CONTEXT, RING, RESULT] = [0, 1, 3, 4] as const;
const MAPPED = 8;

export class Victim {
  readonly vgpu: Vgpu;
  readonly vm: SimMachine;
  readonly #gvt: Gvt;
  readonly #value = new Uint32Array(2);
  readonly #ram: Uint8Array;
  readonly #entries: Uint8Array;
  readonly #words: Uint32Array;
  #jobs = 0;

  constructor(backend: SimBackend, gvt: Gvt) {
    this.#gvt = gvt;
    this.vm = backend.createMachine({ ram: [{ gpa: 0, size: RAM_BYTES }] }) as SimMachine;
    this.vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: this.vm.vmId, bdf: Bdf(0x10), display: false });
    gvt.activate(this.vgpu);
    const memory = this.vm.memory.view(0, RAM_BYTES);
    this.#words = new Uint32Array(memory.buffer, memory.byteOffset, RAM_BYTES / 4);
    for (let i = 0; i < this.#words.length; i++) this.#words[i] = Math.imul(i + 1, 0x9e37_79b1);
    this.#start();
    this.work();
    this.#ram = memory.slice();
    this.#entries = this.#readEntries();
  }

  /** Submits a store of a number that was not there before and looks for it. @returns what went wrong */
  work(): string | undefined {
    const job = ++this.#jobs + 0x1000;
    const aperture = this.vgpu.resources.aperture.start;
    const image = ((CONTEXT + 1) * PAGE) / 4;
    const head = ((this.#words[image + 5] as number) & 0x1f_fffc) % PAGE;
    [0x1040_0002, aperture + RESULT * PAGE, 0, job, 0, 0].forEach((dword, i) => {
      this.#words[(RING * PAGE + ((head + i * 4) % PAGE)) / 4] = dword;
    });
    this.#words[image + 7] = (head + 24) % PAGE;
    for (const dword of [0, 0, 1, aperture + CONTEXT * PAGE + 0x109]) this.#write(BCS + 0x230, dword);
    for (let slice = 0; slice < 64 && this.vgpu.submission.hasWork; slice++) this.#gvt.runSlice(4096);
    const found = this.#words[(RESULT * PAGE) / 4];
    return found === job
      ? undefined
      : `its job stored ${found} instead of ${job}, ${this.vgpu.submission.hung(1) ?? 'the engine is not hung'}`;
  }

  /** What of it is not as it was. */
  harm(): string | undefined {
    const memory = this.vm.memory.view(0, RAM_BYTES);
    if (Buffer.compare(memory, this.#ram) !== 0)
      return `byte 0x${memory.findIndex((byte, i) => byte !== this.#ram[i]).toString(16)} of its RAM changed`;
    if (Buffer.compare(this.#readEntries(), this.#entries) !== 0) return 'its GGTT entries changed';
    if (this.vgpu.failsafe) return 'it is in failsafe';
    return this.work();
  }

  #start(): void {
    const { start } = this.vgpu.resources.aperture;
    for (const [offset, size, value] of [
      [0x10, 4, BAR0],
      [0x04, 2, 2],
    ] as const) {
      this.#value[0] = value;
      this.#gvt.emulateCfgWrite(this.vgpu.id, offset, this.#value, size);
    }
    this.#gvt.emulateMmioRead(this.vgpu.id, (BAR0 + 0x7_8000) as Gpa, this.#value, 8);
    for (let frame = 0; frame < MAPPED; frame++) this.#write(0x80_0000 + (start / PAGE + frame) * 8, frame * PAGE + 1, 8);
    this.#write(BCS + 0x80, start + STATUS * PAGE);
    this.#write(BCS + 0x29c, 0x8000_8000);
    const image = ((CONTEXT + 1) * PAGE) / 4;
    for (const [index, value] of [
      [3, 0],
      [5, 0],
      [9, start + RING * PAGE],
      [11, 1],
    ] as const)
      this.#words[image + index] = value;
  }

  /** All its entries, as its guest reads them. */
  #readEntries(): Uint8Array {
    const { aperture, hidden } = this.vgpu.resources;
    const halves = new Uint32Array(((aperture.size + hidden.size) / PAGE) * 2);
    let at = 0;
    for (const { start, size } of [aperture, hidden])
      for (let page = 0; page < size; page += PAGE) {
        this.#gvt.emulateMmioRead(this.vgpu.id, (BAR0 + 0x80_0000 + ((start + page) / PAGE) * 8) as Gpa, this.#value, 8);
        halves.set(this.#value, at);
        at += 2;
      }
    return new Uint8Array(halves.buffer);
  }

  #write(offset: number, low: number, size = 4): void {
    this.#value[0] = low;
    this.#value[1] = 0;
    this.#gvt.emulateMmioWrite(this.vgpu.id, (BAR0 + offset) as Gpa, this.#value, size);
  }
}
