/**
 * PVINFO: the para-virtual page at BAR0 + 0x78000 by which a guest recognises GVT-g, learns its ranges and tells the
 * device model of page tables and contexts (facts: gvt.md 4.5; i915_pvinfo.h).
 */

import { PAGE_SIZE } from '../addresses.js';
import { Status } from '../gvt-ops.js';
import { frameOf } from './ppgtt/entry.js';
import type { RegisterContext } from './register-context.js';
import type { RegisterDefinition } from './registers.js';
import type { VgpuResources } from './resources.js';
import type { PpgttRoot, RegisterStore } from './roles.js';

export const PVINFO_BASE = 0x7_8000;

/** Byte offsets in the page. */
export const PVINFO = {
  MAGIC_LOW: 0x000,
  MAGIC_HIGH: 0x004,
  /** Major in the low, minor in the high half. */
  VERSION: 0x008,
  VGT_ID: 0x00c,
  CAPS: 0x010,
  APERTURE_BASE: 0x040,
  APERTURE_SIZE: 0x044,
  HIDDEN_BASE: 0x048,
  HIDDEN_SIZE: 0x04c,
  FENCES: 0x050,
  DISPLAY_READY: 0x804,
  /** Four dwords that a guest writes when its ranges do not suffice it. */
  INSUFFICIENT: 0x808,
  G2V_NOTIFY: 0x818,
  CURSOR_X_HOT: 0x830,
  CURSOR_Y_HOT: 0x834,
  /** Four roots of PPGTT, low and high dword each. */
  PDP: 0x838,
  CONTEXT_LOW: 0x858,
  CONTEXT_HIGH: 0x85c,
} as const;

const MAGIC_LOW = 0x7654_4776;
const MAGIC_HIGH = 0x4776_5447;
const VERSION_1_0 = 1;
/** FULL_PPGTT, HWSP_EMULATION, HUGE_GTT. Without the first two i915 does not load. */
const CAPS = 0x1c;
const CURSOR_UNSET = 0xffff_ffff;

/** g2v_notify codes. Contexts are taken from guest memory when a workload uses them. */
export const G2V_CODES: ReadonlyMap<number, string> = new Map([
  [1, 'legacy'],
  [2, 'ppgtt l3 create'],
  [3, 'ppgtt l3 destroy'],
  [4, 'ppgtt l4 create'],
  [5, 'ppgtt l4 destroy'],
  [6, 'execlist context create'],
  [7, 'execlist context destroy'],
]);

/** Those that announce and withdraw roots of page tables. */
const G2V_ROOTS: ReadonlyMap<number, { readonly wide: boolean; readonly does: 'create' | 'destroy' }> = new Map([
  [2, { wide: false, does: 'create' }],
  [3, { wide: false, does: 'destroy' }],
  [4, { wide: true, does: 'create' }],
  [5, { wide: true, does: 'destroy' }],
]);

/** Root in the page's PDP fields. */
function pdpRoot(registers: RegisterStore, wide: boolean): PpgttRoot {
  const directory = (i: number): number => {
    const at = PVINFO_BASE + PVINFO.PDP + i * 8;
    return frameOf(registers.get(at), registers.get(at + 4));
  };
  return { wide, directories: [directory(0), directory(1), directory(2), directory(3)] };
}

/** The fields that describe the vGPU and that no guest writes. */
const description = ({ id, aperture, hidden, fences }: VgpuResources): readonly (readonly [field: number, value: number])[] => [
  [PVINFO.MAGIC_LOW, MAGIC_LOW],
  [PVINFO.MAGIC_HIGH, MAGIC_HIGH],
  [PVINFO.VERSION, VERSION_1_0],
  [PVINFO.VGT_ID, id],
  [PVINFO.CAPS, CAPS],
  [PVINFO.APERTURE_BASE, aperture.start],
  [PVINFO.APERTURE_SIZE, aperture.size],
  [PVINFO.HIDDEN_BASE, hidden.start],
  [PVINFO.HIDDEN_SIZE, hidden.size],
  [PVINFO.FENCES, fences.length],
];

/** Writes the fields that describe the vGPU; what the guest wrote elsewhere in the page stays. */
export function populatePvinfo(registers: RegisterStore, resources: VgpuResources): void {
  for (const [field, value] of description(resources)) registers.set(PVINFO_BASE + field, value);
  registers.set(PVINFO_BASE + PVINFO.CURSOR_X_HOT, CURSOR_UNSET);
  registers.set(PVINFO_BASE + PVINFO.CURSOR_Y_HOT, CURSOR_UNSET);
}

/**
 * After the registers were restored: the vGPU's id may be another one now.
 * @returns the offset of a field that does not describe this vGPU, or undefined
 */
export function adoptPvinfo(registers: RegisterStore, resources: VgpuResources): number | undefined {
  registers.set(PVINFO_BASE + PVINFO.VGT_ID, resources.id);
  return description(resources).find(([field, value]) => registers.get(PVINFO_BASE + field) !== value)?.[0];
}

type FieldWrite = (context: RegisterContext, offset: number, value: number) => void;

const store: FieldWrite = ({ registers }, offset, value) => registers.set(offset, value);

const insufficient: FieldWrite = (context) => context.enterFailsafe('insufficient-resource');

const displayReady: FieldWrite = (context, offset, value) => {
  store(context, offset, value);
  context.displayReady((value & 1) !== 0);
};

const notify: FieldWrite = (context, offset, value) => {
  store(context, offset, value);
  const root = G2V_ROOTS.get(value);
  // What comes of it the guest is not told; it finds out when a workload uses the root.
  if (root !== undefined) context.ppgtt[root.does](pdpRoot(context.registers, root.wide));
  else if (!G2V_CODES.has(value)) context.log.guestError(`PVINFO: unknown g2v notification ${value}`);
};

/** Writable fields: first offset, last offset, effect. */
const WRITES: readonly (readonly [number, number, FieldWrite])[] = [
  [PVINFO.DISPLAY_READY, PVINFO.DISPLAY_READY, displayReady],
  [PVINFO.INSUFFICIENT, PVINFO.INSUFFICIENT + 12, insufficient],
  [PVINFO.G2V_NOTIFY, PVINFO.G2V_NOTIFY, notify],
  [PVINFO.CURSOR_X_HOT, PVINFO.CURSOR_Y_HOT, store],
  [PVINFO.PDP, PVINFO.CONTEXT_HIGH, store],
];

/** Any read tells that the guest knows GVT-g. Fields that are not defined read what is stored: mostly 0. */
function read(context: RegisterContext, offset: number): number {
  context.pvNotified = true;
  return context.registers.get(offset);
}

/** A write to a read-only or unknown field is a guest mistake without consequence. */
function write(context: RegisterContext, offset: number, value: number): Status {
  const field = offset - PVINFO_BASE;
  for (let i = 0; i < WRITES.length; i++) {
    const [first, last, effect] = WRITES[i] as (typeof WRITES)[number];
    if (field >= first && field <= last) {
      effect(context, offset, value);
      return Status.OK;
    }
  }
  context.log.guestError(`PVINFO: write of 0x${value.toString(16)} to the read-only offset 0x${field.toString(16)}`);
  return Status.OK;
}

/** The page as registers; the version is read as 2 bytes and the magic as 8. */
export const PVINFO_REGISTERS: readonly RegisterDefinition[] = [
  { name: 'PVINFO', offset: PVINFO_BASE, count: PAGE_SIZE / 4, narrow: 3, read, write },
];
