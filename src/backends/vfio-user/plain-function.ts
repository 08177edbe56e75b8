/**
 * How a vGPU is presented that brings no VFIO view: 256 bytes of configuration space and a BAR of 1 MiB, whose accesses are delivered.
 * For whoever uses the MPT interface without the device model, as the conformance suite does.
 */
import { BarType, CONFIG_SIZE, commonFields, PciHeader } from '../../core/samples/pci-header.js';
import { Errno, RegionFlag, RegionIndex, type VfioDevice, type VfioRegion } from '../../core/vfio/device.js';
import { PLAIN_BAR_SIZE } from './abi.js';
import { BareFunction } from './bare-function.js';

const READ_WRITE = RegionFlag.READ | RegionFlag.WRITE;
/** Vendor and device as of QEMU's own PCI test device. */
const IDENTITY = { vendor: 0x1b36, device: 0x0005, command: 0, status: 0 };

export class PlainFunction extends BareFunction implements VfioDevice {
  readonly name = 'plain function';
  readonly regions: ReadonlyMap<number, VfioRegion> = new Map(
    (
      [
        [RegionIndex.BAR0, PLAIN_BAR_SIZE],
        [RegionIndex.CONFIG, CONFIG_SIZE],
      ] as const
    ).map(([index, size]) => [index, { index, size, flags: READ_WRITE }]),
  );
  readonly #header = new PciHeader(commonFields(IDENTITY), [{ index: 0, size: PLAIN_BAR_SIZE, type: BarType.MEMORY }]);

  barAddress(bar: number): number | undefined {
    return this.#header.barAddress(bar);
  }

  /** What a client sees before the guest runs; later its accesses are delivered. */
  read(region: number, offset: number, bytes: Uint8Array): Errno {
    if (region === RegionIndex.CONFIG) return this.#header.read(offset, bytes);
    bytes.fill(0);
    return Errno.OK;
  }

  write(region: number, offset: number, bytes: Uint8Array): Errno {
    return region === RegionIndex.CONFIG ? this.#header.write(offset, bytes) : Errno.OK;
  }

  reset(): Errno {
    this.#header.reset();
    return Errno.OK;
  }
}
