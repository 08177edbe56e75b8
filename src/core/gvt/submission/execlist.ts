/** What the guest submits at once, one or two contexts, and what EXECLIST_STATUS tells of it (facts: gvt.md 4.12). */
import type { ContextDescriptor } from './descriptor.js';

export interface ExecList {
  /** Virtual slot, 0 or 1. */
  readonly slot: number;
  readonly elements: readonly [ContextDescriptor] | readonly [ContextDescriptor, ContextDescriptor];
  /** Element that runs. */
  current: number;
}

export const currentContext = ({ elements, current }: ExecList): ContextDescriptor => elements[current] as ContextDescriptor;
export const lastElement = ({ elements }: ExecList): number => elements.length - 1;

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
