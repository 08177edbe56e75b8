/**
 * What the parts of a vGPU and a saved state have in common. A part names each of its fields once, in `exchange`, which serves both
 * directions: when a state is saved the stream takes the value and answers it, when one is restored it ignores the value and answers
 * what was stored, checked against the same limits. So save and restore cannot differ, and a value that no guest could have brought
 * about is refused.
 */

/** A part whose fields belong to the vGPU's state. */
export interface Saved {
  /**
   * Passes every field through the stream, always in the same order.
   * @throws MptError BAD_STATE when a stored value is none that the part can have
   */
  exchange(state: StateStream): void;
}

/** Limits are inclusive. Names are for messages and for the description of the format. */
export interface StateStream {
  /** Values come from a saved state, which may be hostile. */
  readonly restoring: boolean;
  /** One byte, 0 or 1. */
  bool(name: string, value: boolean): boolean;
  /** A whole number in four bytes. Default 0 to 2^32 - 1. */
  u32(name: string, value: number, max?: number, min?: number): number;
  /** A whole number in eight bytes. Default 0 to 2^53 - 1. */
  integer(name: string, value: number, max?: number, min?: number): number;
  /** A number in eight bytes, IEEE 754; may be infinite where the limits are. */
  number(name: string, value: number, max: number, min: number): number;
  /** A line of text: a length in four bytes, UTF-8, no control characters. @param max bytes */
  text(name: string, value: string, max: number): string;
  /** Bytes in place: as many as the array has. */
  bytes(name: string, value: Uint8Array): void;
  /** A length in four bytes, and so many bytes. */
  blob(name: string, value: Uint8Array, max: number): Uint8Array;
  /** Dwords in place, of which most may be 0: see `sparse.ts`. */
  words(name: string, value: Uint32Array): void;
  /** A number of items in four bytes, and the items: `item` exchanges the one with this number. */
  list(name: string, count: number, max: number, item: (index: number) => void): void;
  /** The items that follow belong to `name`. */
  within(name: string, fields: () => void): void;
  /** Refuses the state. @throws MptError BAD_STATE; INTERNAL when one is being saved */
  refuse(what: string): never;
}

/** Of something that may be absent: one byte, and its fields when it is 1. `make` makes it out of the stored fields. */
export function optional<T>(state: StateStream, name: string, value: T | undefined, make: (value: T | undefined) => T): T | undefined {
  const there = state.bool(name, value !== undefined);
  let result: T | undefined;
  if (there)
    state.within(name, () => {
      result = make(value);
    });
  return result;
}
