/**
 * The OpRegion: 8 KiB in which firmware tells the display driver what it knows of the board (Intel ACPI IGD OpRegion Specification 0.5;
 * facts: gvt.md 4.17), and in it the video BIOS table (BDB version 186; i915's names: intel_vbt_defs.h). It offers one mailbox, the
 * table; the driver has nobody to call.
 */

import { type Connector, DEFAULT_CONNECTOR } from './connector.js';

/** Bytes. */
export const OPREGION_SIZE = 0x2000;
const SIGNATURE = 'IntelGraphicsMem';
const AT = { SIZE_KIB: 0x10, VERSION: 0x14, MAILBOXES: 0x58, LID: 0x1ac, VBT: 0x400 } as const;
const VERSION_2_0 = 0x0200_0000;
/** Mailbox 4 alone: the VBT. */
const MAILBOX_VBT = 1 << 3;
/** CLID: the lid is open. Drivers for Windows leave the display off when it is not. */
const LID_OPEN = 3;

const VBT = { SIGNATURE: '$VBT BROADWELL', HEADER: 48, VERSION: 155 } as const;
const BDB = { SIGNATURE: 'BIOS_DATA_BLOCK ', HEADER: 22, VERSION: 186 } as const;
/** Block 2: general definitions. */
const BLOCK_DEFINITIONS = 2;
const DEFINITIONS_HEADER = 5;
/** Pin pair of the CRT's DDC lines, which there must be. */
const CRT_PINS = 2;

/** One child device of 33 bytes: offsets of what is set. */
const CHILD = { SIZE: 33, HANDLE: 0, TYPE: 2, DVO_PORT: 16, DDC_PIN: 19, AUX_CHANNEL: 25 } as const;
/** LFP is 0x08; the display devices are 0x04, 0x40, 0x20 and 0x10 on ports A to D. */
const PORT_B_HANDLE = 0x40;
/** The monitor of port B, by what it is connected. */
const PORT_B: Readonly<Record<Connector, Readonly<Record<'type' | 'dvoPort' | 'ddcPin' | 'auxChannel', number>>>> = {
  /** Not internal, hotplug capable, digital, TMDS. DVO port HDMI-B. Pin pair of port B. */
  hdmi: { type: 0x60d2, dvoPort: 1, ddcPin: 5, auxChannel: 0 },
  /** Not internal, hotplug capable, digital, DisplayPort. DVO port DP-B. AUX channel B. */
  dp: { type: 0x68c6, dvoPort: 7, ddcPin: 0, auxChannel: 0x10 },
};

/** The OpRegion of a vGPU with its monitor at port B. */
export function buildOpRegion(connector: Connector = DEFAULT_CONNECTOR): Uint8Array {
  const bytes = new Uint8Array(OPREGION_SIZE);
  const view = new DataView(bytes.buffer);
  text(bytes, 0, SIGNATURE);
  view.setUint32(AT.SIZE_KIB, OPREGION_SIZE / 1024, true);
  view.setUint32(AT.VERSION, VERSION_2_0, true);
  view.setUint32(AT.MAILBOXES, MAILBOX_VBT, true);
  view.setUint32(AT.LID, LID_OPEN, true);
  bytes.set(buildVbt(connector), AT.VBT);
  return bytes;
}

/** Header, BDB header, one block. */
function buildVbt(connector: Connector): Uint8Array {
  const block = DEFINITIONS_HEADER + CHILD.SIZE;
  const bdbSize = BDB.HEADER + 3 + block;
  const bytes = new Uint8Array(VBT.HEADER + bdbSize);
  const view = new DataView(bytes.buffer);
  text(bytes, 0, VBT.SIGNATURE.padEnd(20));
  view.setUint16(20, VBT.VERSION, true);
  view.setUint16(22, VBT.HEADER, true);
  view.setUint16(24, bytes.length, true);
  // 26: checksum, below. 28: the BDB's offset.
  view.setUint32(28, VBT.HEADER, true);
  text(bytes, VBT.HEADER, BDB.SIGNATURE);
  view.setUint16(VBT.HEADER + 16, BDB.VERSION, true);
  view.setUint16(VBT.HEADER + 18, BDB.HEADER, true);
  view.setUint16(VBT.HEADER + 20, bdbSize, true);
  const at = VBT.HEADER + BDB.HEADER;
  bytes[at] = BLOCK_DEFINITIONS;
  view.setUint16(at + 1, block, true);
  bytes[at + 3] = CRT_PINS;
  bytes[at + 3 + 4] = CHILD.SIZE;
  const child = at + 3 + DEFINITIONS_HEADER;
  const { type, dvoPort, ddcPin, auxChannel } = PORT_B[connector];
  view.setUint16(child + CHILD.HANDLE, PORT_B_HANDLE, true);
  view.setUint16(child + CHILD.TYPE, type, true);
  bytes[child + CHILD.DVO_PORT] = dvoPort;
  bytes[child + CHILD.DDC_PIN] = ddcPin;
  bytes[child + CHILD.AUX_CHANNEL] = auxChannel;
  bytes[26] = -bytes.reduce((sum, byte) => sum + byte, 0);
  return bytes;
}

function text(bytes: Uint8Array, at: number, value: string): void {
  for (let i = 0; i < value.length; i++) bytes[at + i] = value.charCodeAt(i);
}
