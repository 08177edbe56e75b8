/** What a hostile guest does to the display and to its monitor. */
import type { Connector } from '../../src/core/gvt/display/connector.js';
import { monitorEdid } from '../../src/core/gvt/display/monitors.js';
import type { Gvt } from '../../src/core/gvt/gvt.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import { PAGE } from './layout.js';
import type { Apply } from './world.js';

/** Control registers of the AUX channels: port B's, where the monitor is, then the others. */
const AUX_CONTROLS = [0xe_4110, 0xe_4210, 0xe_4310, 0x6_4010] as const;
const AUX_SEND = 0x8000_0000;
const [AUX_DONE, AUX_TIMEOUT] = [0x4000_0000, 0x1000_0000];

/** The guest's way to the vGPU. */
export interface DisplayAccess {
  readonly gvt: Gvt;
  readonly vgpu: () => Vgpu;
  readonly connector: Connector;
  readonly register: (offset: number, value: number) => void;
  readonly read: (offset: number) => number;
  /** Told of each message over AUX that a monitor answered. */
  readonly auxAnswered: () => void;
}

export function displayOperations({ gvt, vgpu, connector, register, read, auxAnswered }: DisplayAccess): Record<string, Apply> {
  // A request of a source: a code, 20 bits of address, a length, data; `size` bytes of it are sent.
  const aux: Apply = (port = 0, code = 0, address = 0, length = 0, size = 0, flags = 0, ...data) => {
    const control = AUX_CONTROLS[port] as number;
    register(control + 4, ((code << 28) | (address << 8) | ((length - 1) & 0xff)) >>> 0);
    for (const [i, dword] of data.entries()) register(control + 8 + i * 4, dword);
    register(control, (AUX_SEND | flags | (size << 20)) >>> 0);
    if ((read(control) & (AUX_DONE | AUX_TIMEOUT)) === AUX_DONE) auxAnswered();
    read(control + 4);
  };
  return {
    plane: (pipe = 0, format = 0, flags = 0, width = 0, height = 0, page = 0) => {
      const at = pipe * 0x1000;
      register(0x6_001c + at, width * 0x1_0000 + height);
      register(0x7_0008 + at, 0x8000_0000);
      for (const plane of [0x180, 0x280]) {
        register(0x7_0000 + at + plane, (0x8000_0000 | (format << 26) | (flags << 8)) >>> 0);
        register(0x7_0008 + at + plane, (width * 4 + 511) & ~511);
        register(0x7_0010 + at + plane, (height * 0x1_0000 + width) >>> 0);
        register(0x7_001c + at + plane, vgpu().resources.aperture.start + page * PAGE);
      }
      register(0x7_0080 + at, flags);
      register(0x7_0084 + at, vgpu().resources.aperture.start + page * PAGE);
      register(0x7_0088 + at, (width * 0x8_0001 + height) >>> 0);
    },
    picture: () => {
      vgpu().queryPlane();
      for (const type of [0, 1, 2]) gvt.view(vgpu()).queryGfxPlane(2, type);
    },
    gmbus: (first = 0, second = 0, bytes = 0) => {
      register(0xc_5100, 5);
      register(0xc_5104, ((second & 0xfe00_0000) | ((bytes & 511) << 16) | 0xa0 | (first & 0x1f)) >>> 0);
      for (let i = 0; i < 4; i++) read(0xc_510c);
      register(0xc_510c, first);
      register(0xc_5104, second);
    },
    aux,
    // The main link of port B, as it is trained: the pattern that is sent, then the one that the monitor is told of.
    link: (rate = 0, lanes = 0, pattern = 0, told = 0) => {
      register(0x6_4140, (0x8000_0000 | ((pattern === 3 ? 4 : pattern - 1) << 8)) >>> 0);
      register(0x6_4100, pattern === 0 ? 0 : (0x8000_0000 | ((lanes - 1) << 1)) >>> 0);
      // Rate and lanes begin the training anew.
      if (pattern < 2) aux(0, 8, 0x100, 3, 7, 0, ((rate << 24) | (lanes << 16) | (told << 8)) >>> 0);
      else aux(0, 8, 0x102, 1, 5, 0, told << 24);
    },
    monitor: (what = 0, value = 0) => {
      if (what < 2) gvt.emulateHotplug(vgpu(), what === 1);
      else gvt.setEdid(vgpu(), monitorWith(value, connector));
    },
  };
}

/** A monitor with another product number. */
function monitorWith(product: number, connector: Connector): Uint8Array {
  const edid = monitorEdid({ width: 1024, height: 768 }, connector);
  const old = edid[10] as number;
  edid[10] = product;
  edid[127] = (edid[127] as number) + old - product;
  return edid;
}
