/** The other side of an EDID region: what a viewer does to plug a monitor in or out of any device that has one. */
import { MptError } from '../errors.js';
import { Errno, RegionType, type VfioDevice } from './device.js';
import { EDID_OFFSET, EdidField, LinkState } from './edid-region.js';

export interface MonitorChange {
  /** Another monitor's. Absent: the monitor that was there. */
  readonly edid?: Uint8Array;
  readonly connected: boolean;
}

const dword = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

/** @throws MptError UNSUPPORTED when the device has no EDID region, INVALID_ARGUMENT when it refuses the EDID */
export function changeMonitor(device: VfioDevice, { edid, connected }: MonitorChange): void {
  const op = 'set_edid';
  const region = [...device.regions.values()].find(({ type }) => type?.type === RegionType.GFX && type.subtype === RegionType.GFX_EDID);
  if (region === undefined) throw new MptError('UNSUPPORTED', `${device.name} has no monitor that could be changed`, { op });
  const write = (offset: number, bytes: Uint8Array): void => {
    if (device.write(region.index, offset, bytes) !== Errno.OK)
      throw new MptError('INVALID_ARGUMENT', `${device.name} refuses the EDID`, {
        op,
        ...(edid === undefined ? {} : { size: edid.length }),
      });
  };
  const link = (state: number): void => write(EdidField.LINK_STATE, dword(state));
  if (edid !== undefined) {
    link(LinkState.DOWN);
    write(EDID_OFFSET, edid);
    write(EdidField.SIZE, dword(edid.length));
  }
  link(connected ? LinkState.UP : LinkState.DOWN);
}
