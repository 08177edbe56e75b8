/** Every mutant, in the order of the table of operations. */
import { OP_INDEX } from '../../../src/core/mpt.js';
import type { Mutant } from '../mutant.js';
import { ATTACH_MUTANTS } from './attach.js';
import { ATTACH_AGAIN_MUTANTS } from './attach-again.js';
import { DMA_MUTANTS } from './dma.js';
import { DMA_REFERENCE_MUTANTS } from './dma-references.js';
import { FRAME_MUTANTS } from './frames.js';
import { HOST_MUTANTS } from './host.js';
import { MAP_MUTANTS } from './map.js';
import { MEMORY_MUTANTS } from './memory.js';
import { MSI_MUTANTS } from './msi.js';
import { OPTIONAL_MUTANTS } from './optional.js';
import { TRACK_MUTANTS } from './track.js';
import { TRACK_SYNC_MUTANTS } from './track-sync.js';
import { TRAP_MUTANTS } from './trap.js';
import { UNTRACK_MUTANTS } from './untrack.js';

export const MUTANTS: readonly Mutant[] = [
  ...HOST_MUTANTS,
  ...ATTACH_MUTANTS,
  ...ATTACH_AGAIN_MUTANTS,
  ...MEMORY_MUTANTS,
  ...FRAME_MUTANTS,
  ...MSI_MUTANTS,
  ...TRACK_MUTANTS,
  ...TRACK_SYNC_MUTANTS,
  ...UNTRACK_MUTANTS,
  ...MAP_MUTANTS,
  ...DMA_MUTANTS,
  ...DMA_REFERENCE_MUTANTS,
  ...TRAP_MUTANTS,
  ...OPTIONAL_MUTANTS,
].sort((a, b) => OP_INDEX[a.operation] - OP_INDEX[b.operation]);
