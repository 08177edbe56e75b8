/**
 * How a vGPU is presented that brings no VFIO view: 256 bytes of configuration space and a BAR of 1 MiB, whose accesses are delivered.
 * For whoever uses the MPT interface without the device model, as the conformance suite does.
 */
import { DeviceFlag, Errno, type NO_PLANE, RegionFlag, RegionIndex, type VfioDevice, type VfioRegion } from '../../core/vfio/device.js';
import { IrqSet } from '../../core/vfio/irqs.js';
import { PCI, PLAIN_BAR_SIZE } from './abi.js';

const READ_WRITE = RegionFlag.READ | RegionFlag.WRITE;
const CONFIG_SIZE = 256;

export class PlainFunction implements VfioDevice {
  readonly name = 'plain function';
  readonly flags = DeviceFlag.PCI | DeviceFlag.RESET;
  readonly regionCount = 9;
  readonly regions: ReadonlyMap<number, VfioRegion> = new Map(
    (
      [
        [RegionIndex.BAR0, PLAIN_BAR_SIZE],
        [RegionIndex.CONFIG, CONFIG_SIZE],
      ] as const
    ).map(([index, size]) => [index, { index, size, flags: READ_WRITE }]),
  );
  readonly irqs = new IrqSet();
  /** Command register and BAR0: what the transport itself must know. */
  #command = 0;
  #bar = 0;

  barAddress(bar: number): number | undefined {
    return bar === 0 && (this.#command & PCI.COMMAND_MEMORY) !== 0 && this.#bar !== 0 ? this.#bar : undefined;
  }

  /** A dword or narrower that was written to configuration space, and delivered. */
  configWritten(offset: number, value: number): void {
    if (offset === PCI.BAR0) this.#bar = (value & -PLAIN_BAR_SIZE) >>> 0;
    else if (offset === PCI.COMMAND) this.#command = value & 0xffff;
  }

  /** What is read before anybody has taken requests: no device. */
  read(_region: number, _offset: number, bytes: Uint8Array): Errno {
    bytes.fill(0);
    return Errno.OK;
  }

  write(): Errno {
    return Errno.OK;
  }

  reset(): Errno {
    this.#command = 0;
    this.#bar = 0;
    return Errno.OK;
  }

  queryGfxPlane(): typeof NO_PLANE | Errno {
    return Errno.EINVAL;
  }

  getGfxDmabuf(): number {
    return Errno.ENOENT;
  }

  picture(): undefined {
    return undefined;
  }
}
