/** attach_vgpu for a vGPU that was attached before, broken. */
import type { HandleMethods } from '../methods.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { all, onHandle, type Patch } from '../patch.js';

type Make<Name extends keyof HandleMethods> = (original: HandleMethods[Name]) => HandleMethods[Name];

/** Wraps a method of every handle of a backend but the first. */
const onSecond =
  <Name extends keyof HandleMethods>(name: Name, make: Make<Name>): Patch =>
  (backend) => {
    let handles = 0;
    onHandle(name, (original) => (++handles > 1 ? make(original) : original))(backend);
  };

/** Each new handle begins with what was asked of the ones before. */
const inherits =
  (name: 'enablePageTrack' | 'dmaMapGuestPage'): Patch =>
  (backend) => {
    const asked: [number, number][] = [];
    onHandle(name, (original) => {
      const call = original as (gfn: number, size: number) => number;
      for (const args of asked) call(...args);
      return ((gfn: number, size: number) => {
        asked.push([gfn, size]);
        return call(gfn, size);
      }) as typeof original;
    })(backend);
  };

/** What is mapped shows what it showed when it was mapped first. */
const showsTheFirst: Patch = (backend) => {
  let first: Uint8Array | undefined;
  all(
    onHandle('dmaMapGuestPage', (original, handle) => (gfn, size) => {
      const address = original(gfn, size);
      first ??= handle.view(address as never, size).slice();
      return address;
    }),
    onSecond('view', () => (_address, length) => (first as Uint8Array).slice(0, length)),
  )(backend);
};

export const ATTACH_AGAIN_MUTANTS: readonly Mutant[] = mutantsOf('attach_vgpu', [
  [
    'again-tracks',
    'The frames that were tracked before the detach are tracked again.',
    'attach-again/tracks-nothing',
    inherits('enablePageTrack'),
  ],
  [
    'again-never-tracks',
    'A vGPU that is attached again cannot track.',
    'attach-again/tracks-from-then-on',
    onSecond('enablePageTrack', () => () => undefined),
  ],
  [
    'again-maps',
    'The DMA mappings from before the detach are there again.',
    'attach-again/dma-address-is-dead',
    inherits('dmaMapGuestPage'),
  ],
  [
    'again-stale',
    'A frame that is mapped anew shows what it held at the first time.',
    'attach-again/dma-shows-what-is-there',
    showsTheFirst,
  ],
  [
    'again-traps-nothing',
    'Accesses to the trap areas of a vGPU that is attached again go to nobody.',
    'attach-again/traps-where-it-did',
    onSecond('claims', () => () => false),
  ],
  [
    'again-silent',
    'Messages of a vGPU that is attached again are lost.',
    'attach-again/interrupts-the-same-guest',
    onSecond('injectMsi', () => () => undefined),
  ],
]);
