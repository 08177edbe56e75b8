/** What the functions of this backend share that are no device model: no interrupts of their own, no display. */
import { DeviceFlag, Errno } from '../../core/vfio/device.js';
import { IrqSet } from '../../core/vfio/irqs.js';

export abstract class BareFunction {
  readonly flags = DeviceFlag.PCI | DeviceFlag.RESET;
  /** VFIO_PCI_NUM_REGIONS. */
  readonly regionCount = 9;
  readonly irqs = new IrqSet();

  queryGfxPlane(): Errno {
    return Errno.EINVAL;
  }

  getGfxDmabuf(): number {
    return Errno.ENOENT;
  }

  picture(): undefined {
    return undefined;
  }
}
