/** The operations that upstream's table has for VMs which see the vGPU as a VFIO device: the OpRegion, a monitor's EDID, references on it. */
import type { HostPages } from './mpt.js';
import { MptHandleChecks } from './mpt-handle-checks.js';

export abstract class MptHandleVfio extends MptHandleChecks {
  #vfioReferences = 0;

  protected override markDetached(): void {
    super.markDetached();
    this.#vfioReferences = 0;
  }

  setOpregion(pages: HostPages): void {
    this.enter('set_opregion');
    this.backend.require('setOpregion', 'set_opregion');
    if (pages.count !== 2)
      throw this.fail('INVALID_ARGUMENT', 'the OpRegion is two pages', 'set_opregion', { size: pages.count, limit: 2 });
    this.guard('set_opregion', () => this.doSetOpregion(pages));
  }

  setEdid(port: number, edid: Uint8Array): void {
    const op = 'set_edid';
    this.enter(op);
    this.backend.require('setEdid', op);
    if (!Number.isInteger(port) || port < 0 || port > 4) throw this.fail('INVALID_ARGUMENT', `port ${port} is not in 0..4 (A..E)`, op);
    if (edid.length !== 128 || edid.reduce((sum, byte) => sum + byte, 0) % 256 !== 0)
      throw this.fail('INVALID_ARGUMENT', 'the EDID is not one 128-byte block with a right checksum', op, {
        size: edid.length,
        limit: 128,
      });
    this.guard(op, () => this.doSetEdid(port, edid.slice()));
  }

  getVfioDevice(): void {
    this.enter('get_vfio_device');
    this.backend.require('vfioDevice', 'get_vfio_device');
    this.guard('get_vfio_device', () => this.doGetVfioDevice());
    this.#vfioReferences++;
  }

  putVfioDevice(): void {
    this.enter('put_vfio_device');
    this.backend.require('vfioDevice', 'put_vfio_device');
    if (this.#vfioReferences === 0) throw this.fail('NOT_MAPPED', 'no reference on the VFIO device is held', 'put_vfio_device');
    this.guard('put_vfio_device', () => this.doPutVfioDevice());
    this.#vfioReferences--;
  }

  /** References held on the VFIO device. */
  get vfioReferences(): number {
    return this.#vfioReferences;
  }
}
