/**
 * What a recording is made of, as a table: each event is a tag, numbers, and for some kinds bytes. Writer and reader go by the same
 * rows. Events from `STEP` on are steps: something that comes to the device model from outside. What follows a step, up to the next,
 * happened inside it, in this order.
 */

/**
 * How a number stands in the file: `u` unsigned below 2^53, `s` signed, `d` the difference to the same field of the last event of the
 * kind. Little-endian groups of seven bits; signed ones zigzag.
 */
export const UNSIGNED = 'u'.charCodeAt(0);
export const SIGNED = 's'.charCodeAt(0);
export const DIFFERENCE = 'd'.charCodeAt(0);

interface EventRow {
  readonly name: string;
  readonly fields: string;
  /** Bytes follow, after their number. */
  readonly blob?: true;
}

/** From here on tags are steps. */
export const STEP = 16;

const INSIDE: readonly EventRow[] = [
  // status, low and high dword of the answer, hash of a long answer. A write that ended with OK has none.
  { name: 'end', fields: 'suuu' },
  // operation, vGPU, four arguments, result
  { name: 'call', fields: 'uudduud' },
  // the same without result; the error follows
  { name: 'refused', fields: 'uudduu', blob: true },
  // a frame that sync_page_track reports: vGPU, frame
  { name: 'reported', fields: 'uu' },
  // what guest memory holds where the device model looks, as far as it is not known yet: page; the ranges follow
  { name: 'page', fields: 'd', blob: true },
  // the memory behind a page went with its VM: page
  { name: 'gone', fields: 'd' },
  // page, offset, size, low and high dword
  { name: 'store', fields: 'dduuu' },
  // page, offset: the value of the step, as long as it is
  { name: 'store-same', fields: 'dd' },
  // page, offset, end, dword
  { name: 'fill', fields: 'duuu' },
  // page, offset, length, hash
  { name: 'bytes', fields: 'duuu' },
  // clock, nanoseconds
  { name: 'now', fields: 'd' },
  // a look at guest memory that failed: which, address; the error follows
  { name: 'unreadable', fields: 'ud', blob: true },
];

const STEPS: readonly EventRow[] = [
  // vGPU and size (see `who`), register; value
  { name: 'cfg-read', fields: 'uu' },
  { name: 'cfg-write', fields: 'uuu' },
  // vGPU and size, address; low and high dword, the latter of 8 bytes only
  { name: 'mmio-read', fields: 'ud' },
  { name: 'mmio-write', fields: 'udu' },
  { name: 'mmio-write-8', fields: 'uduu' },
  { name: 'wp', fields: 'uduu' },
  { name: 'page-written', fields: 'uu' },
  { name: 'memory-unmapped', fields: 'u' },
  // budget
  { name: 'slice', fields: 'u' },
  // what the owner of the device does, as JSON
  { name: 'control', fields: '', blob: true },
  // region, offset, length, whether the answer is the device's alone
  { name: 'device-read', fields: 'uduu' },
  { name: 'device-write', fields: 'ud', blob: true },
  { name: 'device-reset', fields: '' },
  // the recording was ended in order: milliseconds that it took
  { name: 'close', fields: 'u' },
  // a crossing of the conformance suite, as JSON
  { name: 'crossing', fields: '', blob: true },
];

/** By tag; a hole where there is no event. */
export const EVENTS: readonly (EventRow | undefined)[] = [...INSIDE, ...Array<undefined>(STEP - INSIDE.length).fill(undefined), ...STEPS];

export const Tag = {
  END: 0,
  CALL: 1,
  REFUSED: 2,
  REPORTED: 3,
  PAGE: 4,
  GONE: 5,
  STORE: 6,
  STORE_SAME: 7,
  FILL: 8,
  BYTES: 9,
  NOW: 10,
  UNREADABLE: 11,
  CFG_READ: 16,
  CFG_WRITE: 17,
  MMIO_READ: 18,
  MMIO_WRITE: 19,
  MMIO_WRITE_8: 20,
  WP: 21,
  PAGE_WRITTEN: 22,
  UNMAPPED: 23,
  SLICE: 24,
  CONTROL: 25,
  DEVICE_READ: 26,
  DEVICE_WRITE: 27,
  DEVICE_RESET: 28,
  CLOSE: 29,
  CROSSING: 30,
} as const;
export type Tag = (typeof Tag)[keyof typeof Tag];

/** A vGPU and the size of its guest's access, 1 to 8 bytes, in one number. */
export const who = (vgpu: number, size: number): number => vgpu * 16 + (size & 15);
export const vgpuOf = (who: number): number => Math.floor(who / 16);
export const sizeOf = (who: number): number => who % 16;

/** Largest budget of a slice: what one takes is bounded, whatever the file says. */
export const SLICE_MAX = 0x1_0000;

/** Most fields of an event. */
export const FIELDS_MAX = 7;
/** Most bytes of a number. */
export const NUMBER_MAX = 8;
/** Most bytes of a blob: a saved vGPU that is restored; a client's access has up to 1 MiB. */
export const BLOB_MAX = 0x100_0000;
