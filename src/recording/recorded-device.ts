/** A small display device while it is recorded: accesses to its VFIO view are the tape's steps. */
import {
  type Errno,
  type GfxPlane,
  type Picture,
  type PixelMemory,
  RegionFlag,
  type VfioDevice,
  type VfioRegion,
} from '../core/vfio/device.js';
import type { IrqSet } from '../core/vfio/irqs.js';
import { endRead } from './device-answer.js';
import { Tag } from './events.js';
import type { RecordingTape } from './recording-tape.js';

export class RecordedDevice implements VfioDevice {
  readonly #tape: RecordingTape;
  readonly #device: VfioDevice;
  readonly #value = new Uint32Array(2);
  readonly #valueBytes = new Uint8Array(this.#value.buffer);

  constructor(tape: RecordingTape, device: VfioDevice) {
    this.#tape = tape;
    this.#device = device;
  }

  get name(): string {
    return this.#device.name;
  }

  get flags(): number {
    return this.#device.flags;
  }

  get regionCount(): number {
    return this.#device.regionCount;
  }

  get regions(): ReadonlyMap<number, VfioRegion> {
    return this.#device.regions;
  }

  get irqs(): IrqSet {
    return this.#device.irqs;
  }

  read(region: number, offset: number, bytes: Uint8Array): Errno {
    // What a client maps it writes without us: the answer is then not the device's alone.
    const compared = ((this.#device.regions.get(region)?.flags ?? 0) & RegionFlag.MMAP) === 0;
    this.#tape.step(Tag.DEVICE_READ, region, offset, bytes.length, Number(compared));
    const status = this.#device.read(region, offset, bytes);
    endRead(this.#tape, status, bytes, compared, this.#value, this.#valueBytes);
    return status;
  }

  write(region: number, offset: number, bytes: Uint8Array): Errno {
    this.#tape.step(Tag.DEVICE_WRITE, region, offset, 0, 0, 0, bytes);
    const status = this.#device.write(region, offset, bytes);
    this.#tape.end(status);
    return status;
  }

  reset(): Errno {
    this.#tape.step(Tag.DEVICE_RESET);
    const status = this.#device.reset();
    this.#tape.end(status);
    return status;
  }

  barAddress(bar: number): number | undefined {
    return this.#device.barAddress(bar);
  }

  queryGfxPlane(flags: number, planeType: number): GfxPlane | Errno {
    return this.#device.queryGfxPlane(flags, planeType);
  }

  getGfxDmabuf(id: number): number {
    return this.#device.getGfxDmabuf(id);
  }

  picture(pixels?: PixelMemory): Picture | undefined {
    return this.#device.picture(pixels);
  }
}
