/** The MSI capability in a function's configuration space (PCI Local Bus Specification 3.0, 6.7 and 6.8), as both ends look at it. */
import { PCI } from './abi.js';

/** Bytes of configuration space in which capabilities lie, and of the first ones of an MSI capability. */
const CONFIG_SIZE = 256;
const HEADER_SIZE = 0x40;
const CAPABILITY_SIZE = 16;
/** As many as fit: a list that goes round ends. */
const CAPABILITIES_MAX = (CONFIG_SIZE - HEADER_SIZE) / 4;

export interface MsiMessage {
  readonly address: number;
  readonly data: number;
  /** Vectors that the guest enabled, a power of two up to 128. */
  readonly count: number;
}

/** Offset of the capability in the first 256 bytes; 0 when there is none. */
export function findMsi(config: DataView): number {
  if ((config.getUint16(PCI.STATUS, true) & PCI.STATUS_CAPABILITIES) === 0) return 0;
  let at = config.getUint8(PCI.CAPABILITIES) & ~3;
  for (let left = CAPABILITIES_MAX; at >= HEADER_SIZE && left > 0; left--) {
    if (config.getUint8(at) === PCI.MSI) return at <= CONFIG_SIZE - CAPABILITY_SIZE ? at : 0;
    at = config.getUint8(at + 1) & ~3;
  }
  return 0;
}

export const msiEnabled = (config: DataView, at: number): boolean => (config.getUint16(at + 2, true) & PCI.MSI_ENABLE) !== 0;

/** The message that the guest programmed, or undefined: disabled, or to an address above 4 GiB, where no local APIC is. */
export function msiMessage(config: DataView, at: number): MsiMessage | undefined {
  if (at === 0 || !msiEnabled(config, at)) return undefined;
  const control = config.getUint16(at + 2, true);
  const wide = (control & PCI.MSI_64) !== 0;
  if (wide && config.getUint32(at + 8, true) !== 0) return undefined;
  return {
    address: config.getUint32(at + 4, true),
    data: config.getUint16(at + (wide ? 12 : 8), true),
    count: 1 << ((control >>> 4) & 7),
  };
}
