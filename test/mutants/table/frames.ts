/** is_valid_gfn and gfn_to_mfn, broken. */
import { HOLE } from '../../../src/conformance/layout.js';
import { PAGE_SIZE } from '../../../src/core/addresses.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { onHandle, recodeHandle, silentHandle, vmOf } from '../patch.js';

const valid = mutantsOf('is_valid_gfn', [
  ['always', 'Every frame is valid.', 'valid-gfn/false-one-past-next', onHandle('isValidGfn', () => () => true)],
  [
    'end-inclusive',
    'The frame behind a region is valid.',
    'valid-gfn/false-one-past-next',
    onHandle('doIsValidGfn', (original) => (gfn) => original(gfn) || original(gfn - 1)),
  ],
  [
    'starts-early',
    'The frame before a region is valid.',
    'valid-gfn/false-one-before-island',
    onHandle('doIsValidGfn', (original) => (gfn) => original(gfn) || original(gfn + 1)),
  ],
  [
    'last-frame',
    'The last frame of a region is not valid.',
    'valid-gfn/ends-of-next',
    onHandle('doIsValidGfn', (original) => (gfn) => original(gfn) && original(gfn + 1)),
  ],
  [
    '32-bit',
    'A frame above 4 GiB is not valid.',
    'valid-gfn/ends-of-high',
    onHandle('doIsValidGfn', (original) => (gfn) => gfn < 2 ** 20 && original(gfn)),
  ],
  [
    'throws',
    'A number that is no frame throws.',
    'valid-gfn/false-nan',
    onHandle('isValidGfn', (original, handle) => (gfn) => {
      if (!Number.isInteger(gfn)) throw handle.backend.error('INVALID_ADDRESS', 'no frame', { op: 'is_valid_gfn' });
      return original(gfn);
    }),
  ],
  [
    'silent-vm-gone',
    'After the VM is gone every frame is invalid instead of VM_GONE.',
    'vm-gone/is-valid-gfn-refused',
    silentHandle('isValidGfn', 'VM_GONE', false),
  ],
]);

const frame = mutantsOf('gfn_to_mfn', [
  [
    'identity',
    'The host frame is the guest frame.',
    'isolation/host-frames',
    onHandle('doGfnToMfn', (original) => (gfn) => (original(gfn) > 0 ? gfn : 0)),
  ],
  [
    'unstable',
    'Each call gives the next frame.',
    'gfn-to-mfn/stable',
    onHandle('doGfnToMfn', (original) => {
      let calls = 0;
      return (gfn) => original(gfn) + 0x10_0000 * calls++;
    }),
  ],
  [
    'all-ones',
    'A frame without RAM gives the all-ones frame instead of an error.',
    'gfn-to-mfn/not-ram-one-past-next',
    silentHandle('gfnToMfn', 'NOT_RAM', 2 ** 40 - 1),
  ],
  [
    'end-inclusive',
    'The frame behind a region has a host frame.',
    'gfn-to-mfn/not-ram-one-past-island',
    onHandle('doGfnToMfn', (original, handle) => (gfn) => {
      const { memory } = vmOf(handle);
      const after = memory.find(gfn * PAGE_SIZE) === undefined && memory.find((gfn - 1) * PAGE_SIZE) !== undefined;
      return after ? original(gfn - 1) + 1 : original(gfn);
    }),
  ],
  [
    'hole-inside',
    'One frame in the middle of a hole has a host frame.',
    'gfn-to-mfn/not-ram-every-frame-of-the-hole',
    onHandle('doGfnToMfn', (original) => (gfn) => (gfn === HOLE.gpa / PAGE_SIZE + 77 ? 1 : original(gfn))),
  ],
  [
    'per-region',
    'Frames at the same offset of two regions have one host frame.',
    'gfn-to-mfn/distinct',
    onHandle(
      'doGfnToMfn',
      (original, handle) => (gfn) => original(gfn) - original((vmOf(handle).memory.find(gfn * PAGE_SIZE)?.gpa ?? 0) / PAGE_SIZE) + 0x1000,
    ),
  ],
  [
    'fraction',
    'The answer is not an integer.',
    'gfn-to-mfn/is-a-frame-number',
    onHandle('doGfnToMfn', (original) => (gfn) => original(gfn) + 0.5),
  ],
  [
    'shifted-error',
    'An error code is shifted and returned as a frame.',
    'gfn-to-mfn/not-ram-one-past-high',
    silentHandle('gfnToMfn', 'NOT_RAM', -14 / PAGE_SIZE),
  ],
  [
    'per-vgpu',
    'Two vGPUs of a VM see different host frames.',
    'gfn-to-mfn/same-for-two-vgpus',
    onHandle('doGfnToMfn', (original, handle) => (gfn) => original(gfn) + 0x10_0000 * handle.vgpu.id),
  ],
  [
    'takes-nan',
    'NaN is a frame.',
    'gfn-to-mfn/frame-nan',
    onHandle('gfnToMfn', (original) => (gfn) => (Number.isNaN(gfn) ? 0 : original(gfn))),
  ],
  ['limit-ignored', 'Frames at 2^40 are looked up.', 'gfn-to-mfn/frame-at-2-40', recodeHandle('gfnToMfn', 'INVALID_ADDRESS', 'NOT_RAM')],
]);

export const FRAME_MUTANTS: readonly Mutant[] = [...valid, ...frame];
