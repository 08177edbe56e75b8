/** Every case of the suite, in the order in which they run: the backend alone first, guests last. */
import type { ConformanceCase } from '../case.js';
import { ACCESS_CASES } from './access.js';
import { ATTACH_CASES } from './attach.js';
import { ATTACH_AGAIN_CASES } from './attach-again.js';
import { CAPABILITY_CASES } from './capability.js';
import { DETACH_CASES } from './detach.js';
import { DMA_CASES } from './dma.js';
import { DMA_LIMIT_CASES } from './dma-limits.js';
import { DMA_VIEW_CASES } from './dma-view.js';
import { FRAME_CASES } from './frames.js';
import { GUEST_MEMORY_CASES } from './guest-memory.js';
import { HOST_CASES } from './host.js';
import { INJECT_MSI_CASES } from './inject-msi.js';
import { ISOLATION_CASES } from './isolation.js';
import { MACHINE_CASES } from './machine.js';
import { MAP_GFN_CASES } from './map-gfn.js';
import { OPTIONAL_CASES } from './optional.js';
import { PAGE_TRACK_CASES } from './page-track.js';
import { PAGE_TRACK_SYNC_CASES } from './page-track-sync.js';
import { PVMMIO_CASES } from './pvmmio.js';
import { TRAP_AREA_CASES } from './trap-area.js';

export const CASES: readonly ConformanceCase[] = [
  ...HOST_CASES,
  ...CAPABILITY_CASES,
  ...ATTACH_CASES,
  ...DETACH_CASES,
  ...ATTACH_AGAIN_CASES,
  ...MACHINE_CASES,
  ...GUEST_MEMORY_CASES,
  ...FRAME_CASES,
  ...DMA_CASES,
  ...DMA_VIEW_CASES,
  ...DMA_LIMIT_CASES,
  ...OPTIONAL_CASES,
  ...ACCESS_CASES,
  ...TRAP_AREA_CASES,
  ...MAP_GFN_CASES,
  ...INJECT_MSI_CASES,
  ...PAGE_TRACK_CASES,
  ...PAGE_TRACK_SYNC_CASES,
  ...PVMMIO_CASES,
  ...ISOLATION_CASES,
];
