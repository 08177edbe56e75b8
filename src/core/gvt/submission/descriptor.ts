/** Context descriptors as the guest writes them to ELSP (facts: gvt.md 4.12, i915.md rule 4). */

import { PAGE_SIZE } from '../../addresses.js';
import type { StateStream } from '../state/stream.js';

const VALID = 1 << 0;
const PRIVILEGE = 1 << 8;
/** Addressing mode, bits 4:3: 1 is 32-bit, 3 is 64-bit; GVT-g refuses the others. */
const MODE_64 = 3;
const MODES: readonly boolean[] = [false, true, false, true];
/** Logical ring context address, bits 31:12; bits 11:9 are others' on the render engine. */
const LRCA_MASK = 0xffff_f000;

export interface ContextDescriptor {
  /** GPU address of the context image. */
  readonly lrca: number;
  /** High dword: the id that status entries carry. */
  readonly id: number;
  /** Its per-process addresses have 48 bits. */
  readonly wide: boolean;
}

/** One that was accepted, as a part of a saved state. */
export function exchangeDescriptor(state: StateStream, descriptor: ContextDescriptor | undefined): ContextDescriptor {
  const { lrca, id, wide } = descriptor ?? { lrca: 0, id: 0, wide: false };
  const stored = { lrca: state.u32('lrca', lrca), id: state.u32('id', id), wide: state.bool('wide', wide) };
  if (stored.lrca % PAGE_SIZE !== 0) state.refuse('a context does not start at a page');
  return stored;
}

export const isValid = (low: number): boolean => (low & VALID) !== 0;

/** A valid descriptor's parts, or what is wrong with it. */
export function parseDescriptor(low: number, high: number): ContextDescriptor | string {
  if ((low & PRIVILEGE) === 0) return 'a context without the privilege bit asks for GGTT submission';
  if (MODES[(low >>> 3) & 3] !== true) return `addressing mode ${(low >>> 3) & 3} is not supported`;
  return { lrca: (low & LRCA_MASK) >>> 0, id: high, wide: ((low >>> 3) & 3) === MODE_64 };
}

export const sameContext = (a: ContextDescriptor, b: ContextDescriptor): boolean => a.lrca === b.lrca && a.id === b.id;
