/** The function whose I/O BARs are the ports of test code in a QEMU guest; no vGPU. */
import { Errno, RegionFlag, RegionIndex, type VfioDevice, type VfioRegion } from '../../core/vfio/device.js';
import { BareFunction } from './bare-function.js';
import { PORT_BARS } from './qemu-command.js';

const CONFIG_SIZE = 256;
const READ_WRITE = RegionFlag.READ | RegionFlag.WRITE;
const BAR_IO = 1;

export class PortFunction extends BareFunction implements VfioDevice {
  readonly name = 'ports';
  readonly regions: ReadonlyMap<number, VfioRegion> = new Map(
    [...PORT_BARS, { index: RegionIndex.CONFIG, size: CONFIG_SIZE }].map(({ index, size }) => [index, { index, size, flags: READ_WRITE }]),
  );
  readonly #config = new Uint8Array(CONFIG_SIZE);

  constructor() {
    super();
    const view = new DataView(this.#config.buffer);
    // Vendor 1b36 is Red Hat's, with 0005 for QEMU's own PCI test device; class 0xff: fits none.
    view.setUint32(0, 0x0005_1b36, true);
    view.setUint32(8, 0xff00_0001, true);
    for (const { index } of PORT_BARS) view.setUint32(0x10 + 4 * index, BAR_IO, true);
  }

  /** First port of the BAR: the start code put it there. */
  barAddress(bar: number): number | undefined {
    return PORT_BARS.find(({ index }) => index === bar)?.port;
  }

  /** Configuration space only: ports are delivered. QEMU keeps what is written. */
  read(_region: number, offset: number, bytes: Uint8Array): Errno {
    bytes.set(this.#config.subarray(offset, offset + bytes.length));
    return Errno.OK;
  }

  write(): Errno {
    return Errno.OK;
  }

  reset(): Errno {
    return Errno.OK;
  }
}
