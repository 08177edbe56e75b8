/** What mutants of DMA mappings have in common. */
import { handleProperty, onHandle, type Patch } from '../patch.js';

/** A view that is refused reaches the simulated machine's memory all the same. */
export const reaches = (when: (address: number, length: number) => boolean): Patch =>
  onHandle('view', (original, _handle, backend) => (address, length) => {
    try {
      return original(address, length);
    } catch (error) {
      if (when(address, length)) return backend.hostMemory.view(address, length);
      throw error;
    }
  });
/** Another number of pinned pages is told. */
export const pinned = (make: (pages: number) => number): Patch =>
  handleProperty('pinnedPages', (_, original) => make(original() as number));
