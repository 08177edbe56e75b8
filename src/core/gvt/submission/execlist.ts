/** What the guest submits at once, one or two contexts, and what EXECLIST_STATUS tells of it (facts: gvt.md 4.12). */
import type { StateStream } from '../state/stream.js';
import { type ContextDescriptor, exchangeDescriptor } from './descriptor.js';

export interface ExecList {
  /** Virtual slot, 0 or 1. */
  readonly slot: number;
  readonly elements: readonly [ContextDescriptor] | readonly [ContextDescriptor, ContextDescriptor];
  /** Element that runs. */
  current: number;
}

export const currentContext = ({ elements, current }: ExecList): ContextDescriptor => elements[current] as ContextDescriptor;
export const lastElement = ({ elements }: ExecList): number => elements.length - 1;

/** A list as a part of a saved state. */
export function exchangeList(state: StateStream, list: ExecList | undefined): ExecList {
  const slot = state.u32('slot', list?.slot ?? 0, 1);
  const second = state.bool('second', list?.elements[1] !== undefined);
  const first = exchangeDescriptor(state, list?.elements[0]);
  const elements = second ? ([first, exchangeDescriptor(state, list?.elements[1])] as const) : ([first] as const);
  return { slot, elements, current: state.u32('current', list?.current ?? 0, second ? 1 : 0) };
}

/** EXECLIST_STATUS, low dword. @param nextSlot where the next list goes. @param reason of the last switch, as in its status entry */
export function encodeStatus(running: ExecList | undefined, pending: ExecList | undefined, nextSlot: number, reason: number): number {
  const valid = (slot: number): boolean => running?.slot === slot || pending?.slot === slot;
  return (
    (running?.slot ?? 0) |
    (nextSlot << 1) |
    (pending === undefined ? 0 : 1 << 2) |
    (valid(1) ? 1 << 3 : 0) |
    (valid(0) ? 1 << 4 : 0) |
    ((reason & 0x1ff) << 5) |
    (running === undefined ? 0 : (running.current + 1) << 14) |
    // Arbitration is always enabled.
    (1 << 16) |
    (running?.slot === 1 ? 1 << 17 : 0) |
    (running?.slot === 0 ? 1 << 18 : 0)
  );
}
