/**
 * pvmmio in BAR0 (facts: gvt.md 1.3 #16 and 5.5): the register file, which the guest reads from memory; the PVINFO page inside it, which
 * keeps trapping; the shared page behind it.
 */
import { PAGE_SIZE } from './addresses.js';
import { MptError } from './errors.js';
import type { VgpuAttachment } from './mpt.js';

export const PVMMIO = {
  registerFileSize: 0x20_0000,
  pvinfoOffset: 0x7_8000,
  sharedPageOffset: 0x20_0000,
} as const;

/** Bytes of BAR0 that pvmmio maps. */
export const PVMMIO_SIZE = PVMMIO.sharedPageOffset + PAGE_SIZE;

/** True for an address of the PVINFO page of a window that begins at `start`. */
export const isPvinfo = (start: number, address: number): boolean => {
  const offset = address - start - PVMMIO.pvinfoOffset;
  return offset >= 0 && offset < PAGE_SIZE;
};

/** For a backend's set_pvmmio. @throws MptError INVALID_ARGUMENT unless window and pages have room for register file and shared page */
export function checkPvmmio(start: number, end: number, { registerFile, sharedPage }: NonNullable<VgpuAttachment['pvmmio']>): void {
  if (start % PAGE_SIZE !== 0 || end - start + 1 < PVMMIO_SIZE)
    throw new MptError('INVALID_ARGUMENT', 'the window is not page aligned or has no room for register file and shared page', {
      address: start,
      size: end - start + 1,
      limit: PVMMIO_SIZE,
    });
  if (registerFile.count * PAGE_SIZE < PVMMIO.registerFileSize || sharedPage.count < 1)
    throw new MptError('INVALID_ARGUMENT', 'the register file has too few pages', {
      size: registerFile.count,
      limit: PVMMIO.registerFileSize / PAGE_SIZE,
    });
}
