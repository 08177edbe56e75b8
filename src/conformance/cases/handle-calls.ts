/** One harmless call of each operation of a handle: for the rules that hold for all of them. */
import { type DmaAddress, Gfn, Gpa, type Mfn, PAGE_SIZE } from '../../core/addresses.js';
import type { HostPages, MptOperationName } from '../../core/mpt.js';
import type { MptHandle } from '../../core/mpt-handle.js';
import { HOLE, MSI_ADDRESS, SCRATCH, SCRATCH_FRAME } from '../layout.js';
import { edidBlock } from './optional.js';

/** Two pages that look like an OpRegion. */
const fakePages = (count: number): HostPages => ({
  mfn: 1 as Mfn,
  hva: PAGE_SIZE as HostPages['hva'],
  count,
  bytes: new Uint8Array(count * PAGE_SIZE),
  release() {},
});

/** By the operation that an error names. The arguments pass every check on a live handle. */
export const HANDLE_CALLS: readonly (readonly [string, (handle: MptHandle) => unknown])[] = [
  ['inject_msi', (handle) => handle.injectMsi(MSI_ADDRESS, 0x40)],
  ['enable_page_track', (handle) => handle.enablePageTrack(Gfn(SCRATCH_FRAME))],
  ['disable_page_track', (handle) => handle.disablePageTrack(Gfn(SCRATCH_FRAME))],
  ['read_gpa', (handle) => handle.readGpa(Gpa(SCRATCH), new Uint8Array(4))],
  ['write_gpa', (handle) => handle.writeGpa(Gpa(SCRATCH), new Uint8Array(4))],
  ['gfn_to_mfn', (handle) => handle.gfnToMfn(Gfn(SCRATCH_FRAME))],
  ['map_gfn_to_mfn', (handle) => handle.mapGfnToMfn(Gfn(HOLE.gpa / PAGE_SIZE), 1 as Mfn, 1, true)],
  ['dma_map_guest_page', (handle) => handle.dmaMapGuestPage(Gfn(SCRATCH_FRAME), PAGE_SIZE)],
  ['dma_unmap_guest_page', (handle) => handle.dmaUnmapGuestPage(PAGE_SIZE as DmaAddress)],
  ['dma_pin_guest_page', (handle) => handle.dmaPinGuestPage(PAGE_SIZE as DmaAddress)],
  ['set_trap_area', (handle) => handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true)],
  ['set_pvmmio', (handle) => handle.setPvmmio(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xff_ffff), true)],
  ['set_opregion', (handle) => handle.setOpregion(fakePages(2))],
  ['set_edid', (handle) => handle.setEdid(1, edidBlock())],
  ['get_vfio_device', (handle) => handle.getVfioDevice()],
  ['put_vfio_device', (handle) => handle.putVfioDevice()],
  ['is_valid_gfn', (handle) => handle.isValidGfn(Gfn(SCRATCH_FRAME))],
  ['sync_page_track', (handle) => handle.syncPageTrack()],
  ['arm_msi', (handle) => handle.armMsi(MSI_ADDRESS, 0x40)],
  ['dma_view', (handle) => handle.view(PAGE_SIZE as DmaAddress, 4)],
  ['dma_copy', (handle) => handle.copyFrom(PAGE_SIZE as DmaAddress, new Uint8Array(4), 0, 4)],
];

/** Names in `HANDLE_CALLS` that are not in the table of operations, with the operation that they belong to. */
const BELONGS_TO: Readonly<Record<string, MptOperationName>> = {
  sync_page_track: 'enable_page_track',
  arm_msi: 'inject_msi',
  dma_view: 'dma_map_guest_page',
  dma_copy: 'dma_map_guest_page',
};
/** The table's operation of a name in `HANDLE_CALLS`. */
export const operationOf = (op: string): MptOperationName => BELONGS_TO[op] ?? (op as MptOperationName);
