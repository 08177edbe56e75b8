/** Devices on memory of plain arrays, and accesses to their regions as a client makes them. */
import type { DeviceMemories, DeviceMemory } from '../../src/core/device-memory.js';
import { MptError } from '../../src/core/errors.js';
import { findSampleType, type SampleDevice, Samples } from '../../src/core/samples/index.js';
import type { VfioDevice } from '../../src/core/vfio/device.js';

export const MIB = 0x10_0000;

export class ArrayMemories implements DeviceMemories {
  /** Sizes by name, of the memories that are open. */
  readonly open: [name: string, size: number][] = [];
  readonly exports: [offset: number, size: number][] = [];
  /** What exportPlane answers next. */
  exported = 77;
  /** The next allocation fails. */
  broken = false;
  /** Descriptor that memories claim to have. */
  fd = 5;

  allocate(size: number, name: string): DeviceMemory {
    if (this.broken) throw new MptError('NO_MEMORY', 'refused by the test', { size });
    const entry: [string, number] = [name, size];
    this.open.push(entry);
    const close = (): void => {
      const at = this.open.indexOf(entry);
      if (at < 0) throw new Error('closed twice');
      this.open.splice(at, 1);
    };
    return { bytes: new Uint8Array(size), fd: this.fd, close };
  }

  exportPlane(_memory: DeviceMemory, offset: number, size: number): number {
    this.exports.push([offset, size]);
    return this.exported;
  }
}

export interface Rig {
  readonly memories: ArrayMemories;
  readonly samples: Samples;
  readonly device: SampleDevice;
}

export function rig(type: string, memories = new ArrayMemories()): Rig {
  const samples = new Samples(memories);
  return { memories, samples, device: samples.create(findSampleType(type)) };
}

/** Little-endian value of `size` bytes at `offset`; throws the errno when the read is refused. */
export function get(device: VfioDevice, region: number, offset: number, size: number): number {
  const bytes = new Uint8Array(size).fill(0xee);
  const status = device.read(region, offset, bytes);
  if (status !== 0) throw new Error(`read of ${size} at region ${region} + 0x${offset.toString(16)}: ${status}`);
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}

/** Writes a little-endian value. @returns the errno */
export function put(device: VfioDevice, region: number, offset: number, size: number, value: number): number {
  return device.write(
    region,
    offset,
    Uint8Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i) % 256),
  );
}

/** Errno of a read. */
export const readStatus = (device: VfioDevice, region: number, offset: number, size: number): number =>
  device.read(region, offset, new Uint8Array(size));
