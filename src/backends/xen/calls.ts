/** The calls as this machine offers them: each part through its library, or by the kernel's ioctls where that is missing. */

import { MptError } from '../../core/errors.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { XenCalls } from '../../native/xen-calls.js';
import {
  loadControl,
  loadDeviceModel,
  loadEventChannels,
  loadForeignMemory,
  loadHypercalls,
  loadXenstore,
  XEN_LIBRARIES,
  type XenLibraryName,
  xenctrlPackage,
  xenctrlSoname,
} from '../../native/xen-libraries.js';
import { rawDeviceModel, rawEventChannels, rawForeignMemory, rawHypercalls } from './raw-calls.js';

export interface OpenedCalls {
  readonly calls: XenCalls;
  /** Parts that go through the kernel's ioctls because their library is missing, or because that was asked. */
  readonly raw: readonly XenLibraryName[];
}

/**
 * @param version of the running hypervisor, `4.17`
 * @param rawOnly uses the ioctls even where the libraries are there
 * @throws MptError UNAVAILABLE without libxenctrl of that version
 */
export function openXenCalls(sys: Syscalls, version: string, rawOnly = false): OpenedCalls {
  const control = loadControl(version);
  if (control === undefined)
    throw new MptError('UNAVAILABLE', `${xenctrlSoname(version)} cannot be loaded`, { hint: `install ${xenctrlPackage(version)}` });
  const raw: XenLibraryName[] = [];
  const opened: (() => void)[] = [() => control.closeControl()];
  /** The library's part, or the raw one. */
  const part = <T>(name: XenLibraryName, library: () => T | undefined, stand: () => T): T => {
    const loaded = rawOnly ? undefined : library();
    if (loaded === undefined) raw.push(name);
    return loaded ?? stand();
  };
  try {
    const rawModel = rawDeviceModel(sys);
    opened.push(() => rawModel.closeDeviceModel());
    const model = part(
      'deviceModel',
      () => loadDeviceModel(rawModel),
      () => rawModel,
    );
    if (model !== rawModel) opened.push(() => model.closeDeviceModel());
    const memory = part('foreignMemory', loadForeignMemory, () => rawForeignMemory(sys));
    opened.push(() => memory.closeForeignMemory());
    const hypercalls = part('hypercalls', loadHypercalls, () => rawHypercalls(sys));
    opened.push(() => hypercalls.closeHypercalls());
    const openEventChannels = part('eventChannels', loadEventChannels, () => () => rawEventChannels(sys));
    const xenstore = loadXenstore();
    const domainName = (domid: number): string | undefined => xenstore?.(`/local/domain/${domid}/name`);
    const close = (): void => {
      for (const release of opened.splice(0).reverse()) release();
    };
    return { calls: { ...control, ...model, ...memory, ...hypercalls, openEventChannels, domainName, close }, raw };
  } catch (error) {
    for (const release of opened.reverse()) release();
    throw error;
  }
}

/** Libraries that are not there, as `soname (package)`. */
export const describeRaw = (raw: readonly XenLibraryName[]): string =>
  raw.map((name) => `${XEN_LIBRARIES[name].soname} (${XEN_LIBRARIES[name].debian})`).join(', ');
