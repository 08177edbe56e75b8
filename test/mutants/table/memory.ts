/** read_gpa and write_gpa, broken. */

import { HOLE } from '../../../src/conformance/layout.js';
import { PAGE_SIZE } from '../../../src/core/addresses.js';
import { MptError } from '../../../src/core/errors.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { all, onBackend, onHandle, onRequests, type Patch, recodeHandle, silentHandle, vagueHandle, vmOf } from '../patch.js';

/** Copies as much as there is before it fails. */
const partial = (name: 'doReadGpa' | 'doWriteGpa'): Patch =>
  onHandle(name, (original) => (gpa, buffer, offset, length) => {
    try {
      original(gpa, buffer, offset, length);
    } catch (error) {
      const inRam = MptError.is(error) ? (error.address ?? gpa) - gpa : 0;
      if (inRam > 0 && inRam < length) original(gpa, buffer, offset, inRam);
      throw error;
    }
  });
/** The last byte before a hole counts as missing. */
const endRefused = (name: 'doReadGpa' | 'doWriteGpa'): Patch =>
  onHandle(name, (original, handle) => (gpa, buffer, offset, length) => {
    if (!vmOf(handle).memory.covers(gpa, length + 1)) throw new MptError('NOT_RAM', 'the end is not RAM', { address: gpa + length });
    original(gpa, buffer, offset, length);
  });
const copy = (
  name: 'doReadGpa' | 'doWriteGpa',
  change: (gpa: number, offset: number, length: number, buffer: Uint8Array) => readonly [number, number, number],
): Patch => onHandle(name, (original) => (gpa, buffer, offset, length) => original(...insert(change(gpa, offset, length, buffer), buffer)));
const insert = ([gpa, offset, length]: readonly [number, number, number], buffer: Uint8Array): [number, Uint8Array, number, number] => [
  gpa,
  buffer,
  offset,
  length,
];

const read = mutantsOf('read_gpa', [
  [
    'never-released',
    'Each read keeps a mapping of its frame, and the table of mappings is full at last.',
    'read-gpa/every-frame-again-and-again',
    onHandle('doReadGpa', (original) => {
      let mappings = 0;
      return (gpa, buffer, offset, length) => {
        if (++mappings > 4096) throw new MptError('NO_MEMORY', 'the table of mappings is full', { address: gpa });
        original(gpa, buffer, offset, length);
      };
    }),
  ],
  [
    'one-byte-short',
    'The last byte is not copied.',
    'read-gpa/buffer-part-only',
    copy('doReadGpa', (gpa, offset, length) => [gpa, offset, Math.max(1, length - 1)]),
  ],
  [
    'offset-ignored',
    'The bytes go to the start of the buffer.',
    'read-gpa/buffer-part-only',
    copy('doReadGpa', (gpa, _, length) => [gpa, 0, length]),
  ],
  [
    'length-ignored',
    'The buffer is filled to its end.',
    'read-gpa/buffer-part-only',
    copy('doReadGpa', (gpa, offset, _, buffer) => [gpa, offset, buffer.length - offset]),
  ],
  [
    'starts-late',
    'The copy starts one byte late.',
    'read-gpa/ends-of-low',
    copy('doReadGpa', (gpa, offset, length) => [gpa + 1, offset, length]),
  ],
  [
    'default-length',
    'Without a length four bytes are copied.',
    'read-gpa/rest-of-buffer',
    onHandle(
      'readGpa',
      (original) => (gpa, buffer, offset, length) => original(gpa, buffer, offset, length ?? (offset === undefined ? undefined : 4)),
    ),
  ],
  [
    '32-bit',
    'The address is truncated to 32 bits.',
    'read-gpa/address-above-4-gib',
    copy('doReadGpa', (gpa, offset, length) => [gpa < 2 ** 33 ? gpa % 2 ** 32 : gpa, offset, length]),
  ],
  ['partial', 'What is RAM is copied before the hole is found.', 'read-gpa/not-ram-last-byte-and-one', partial('doReadGpa')],
  ['hole-is-zero', 'A hole reads as zero.', 'read-gpa/not-ram-middle-of-hole', silentHandle('readGpa', 'NOT_RAM')],
  [
    'wrong-code',
    'A hole answers INVALID_ADDRESS.',
    'read-gpa/not-ram-one-past-next',
    recodeHandle('readGpa', 'NOT_RAM', 'INVALID_ADDRESS'),
  ],
  [
    'names-the-start',
    'The error names the start of the range, not its first missing byte.',
    'read-gpa/not-ram-page-into-hole',
    onHandle('doReadGpa', (original) => (gpa, buffer, offset, length) => {
      try {
        original(gpa, buffer, offset, length);
      } catch {
        throw new MptError('NOT_RAM', 'a hole', { address: gpa });
      }
    }),
  ],
  ['end-refused', 'The last byte of a region cannot be read.', 'read-gpa/ends-of-next', endRefused('doReadGpa')],
  [
    'stale',
    'A range that was read before is answered from a cache.',
    'read-gpa/sees-later-writes',
    onHandle('doReadGpa', (original) => {
      const cache = new Map<string, Uint8Array>();
      return (gpa, buffer, offset, length) => {
        const known = cache.get(`${gpa} ${length}`);
        if (known !== undefined) return buffer.set(known, offset);
        original(gpa, buffer, offset, length);
        cache.set(`${gpa} ${length}`, buffer.slice(offset, offset + length));
      };
    }),
  ],
  [
    'live',
    'What was read changes with guest memory.',
    'read-gpa/copies',
    onHandle('doReadGpa', (original, handle) => {
      const given: [number, Uint8Array, number, number][] = [];
      const write = handle.writeGpa.bind(handle);
      handle.writeGpa = (...args) => {
        write(...args);
        for (const known of given) original(...known);
      };
      return (gpa, buffer, offset, length) => {
        original(gpa, buffer, offset, length);
        given.push([gpa, buffer, offset, length]);
      };
    }),
  ],
  ['zero-length', 'Nothing can be read.', 'read-gpa/zero-length', silentHandle('readGpa', 'INVALID_ARGUMENT')],
  [
    'clamped',
    'A length past the buffer is shortened.',
    'read-gpa/length-past-buffer',
    onHandle(
      'readGpa',
      (original) =>
        (gpa, buffer, offset = 0, length = buffer.length - offset) =>
          original(gpa, buffer, offset, length > buffer.length ? buffer.length : length),
    ),
  ],
  [
    'wraps',
    'A range that passes 2^52 wraps.',
    'read-gpa/passes-2-52',
    onHandle(
      'readGpa',
      (original) => (gpa, buffer, offset, length) => (gpa === 2 ** 52 - 4 ? undefined : original(gpa, buffer, offset, length)),
    ),
  ],
  [
    'skips-the-hole',
    'A copy across a hole goes on behind it.',
    'read-gpa/not-ram-across-the-hole',
    onHandle('doReadGpa', (original) => (gpa, buffer, offset, length) => {
      if (length <= HOLE.size) return original(gpa, buffer, offset, length);
      original(gpa, buffer, offset, HOLE.gpa - gpa);
      original(HOLE.gpa + HOLE.size, buffer, offset, PAGE_SIZE);
    }),
  ],
  ['address-unnamed', 'A bad address is not named.', 'read-gpa/address-nan', vagueHandle('readGpa', 'INVALID_ADDRESS', 'limit')],
  [
    'dirty-ram',
    'New RAM is not zeroed.',
    'read-gpa/fresh-ram-is-zero',
    onBackend('doCreateMachine', (original, backend) => (spec) => {
      const machine = original(spec);
      const { memory } = backend.vm(machine.vmId);
      for (const region of memory.regions) region.bytes.fill(0xcc, region.size - 4);
      return machine;
    }),
  ],
]);

const write = mutantsOf('write_gpa', [
  ['does-nothing', 'Nothing is written.', 'write-gpa/size-1-skew-0', onHandle('doWriteGpa', () => () => undefined)],
  [
    'one-byte-short',
    'The last byte is not written.',
    'write-gpa/size-4-skew-1',
    copy('doWriteGpa', (gpa, offset, length) => [gpa, offset, Math.max(1, length - 1)]),
  ],
  [
    'offset-ignored',
    'The bytes are taken from the start of the buffer.',
    'write-gpa/source-part-only',
    copy('doWriteGpa', (gpa, _, length) => [gpa, 0, length]),
  ],
  [
    'length-ignored',
    'The buffer is written to its end.',
    'write-gpa/source-part-only',
    copy('doWriteGpa', (gpa, offset, _, buffer) => [gpa, offset, buffer.length - offset]),
  ],
  [
    'whole-dwords',
    'A short write clears the rest of its dword.',
    'write-gpa/size-1-skew-0',
    onHandle('doWriteGpa', (original) => (gpa, buffer, offset, length) => {
      const bytes = new Uint8Array(Math.max(4, length));
      bytes.set(buffer.subarray(offset, offset + length));
      original(gpa, bytes, 0, bytes.length);
    }),
  ],
  [
    'byte-order',
    'Eight bytes are written in reverse.',
    'write-gpa/size-8-skew-0',
    onHandle('doWriteGpa', (original) => (gpa, buffer, offset, length) => {
      if (length === 8) original(gpa, buffer.slice(offset, offset + 8).reverse(), 0, 8);
      else original(gpa, buffer, offset, length);
    }),
  ],
  [
    'aligned-only',
    'An unaligned address is rounded down.',
    'write-gpa/size-2-skew-1',
    copy('doWriteGpa', (gpa, offset, length) => [length === 2 ? gpa - (gpa % 2) : gpa, offset, length]),
  ],
  [
    'clears-the-source',
    'The buffer is cleared after the copy.',
    'write-gpa/source-part-only',
    onHandle('doWriteGpa', (original) => (gpa, buffer, offset, length) => {
      original(gpa, buffer, offset, length);
      buffer.fill(0, offset, offset + length);
    }),
  ],
  [
    '32-bit',
    'The address is truncated to 32 bits.',
    'write-gpa/regions-do-not-alias',
    copy('doWriteGpa', (gpa, offset, length) => [gpa % 2 ** 32, offset, length]),
  ],
  [
    'second-region-lost',
    'Of a copy across regions only the first part is written.',
    'write-gpa/crosses-regions-length-8',
    copy('doWriteGpa', (gpa, offset, length) => [gpa, offset, gpa < 0x40_0000 && gpa + length > 0x40_0000 ? 0x40_0000 - gpa : length]),
  ],
  [
    'second-page-lost',
    'At most one page is written.',
    'write-gpa/length-4097',
    copy('doWriteGpa', (gpa, offset, length) => [gpa, offset, Math.min(length, PAGE_SIZE)]),
  ],
  [
    'one-too-many',
    'The byte behind the range is cleared.',
    'write-gpa/length-4096',
    onHandle('doWriteGpa', (original) => (gpa, buffer, offset, length) => {
      original(gpa, buffer, offset, length);
      if (length === PAGE_SIZE) original(gpa + length, new Uint8Array(1), 0, 1);
    }),
  ],
  ['partial', 'What is RAM is written before the hole is found.', 'write-gpa/not-ram-last-byte-and-one', partial('doWriteGpa')],
  ['hole-swallows', 'A write to a hole is dropped silently.', 'write-gpa/not-ram-one-past-high', silentHandle('writeGpa', 'NOT_RAM')],
  ['end-refused', 'The last byte of RAM cannot be written.', 'access/ram-size-1-end-of-ram', endRefused('doWriteGpa')],
  [
    'wrong-code',
    'A range outside the buffer answers INVALID_ADDRESS.',
    'write-gpa/offset-past-buffer',
    recodeHandle('writeGpa', 'INVALID_ARGUMENT', 'INVALID_ADDRESS'),
  ],
  [
    'default-length',
    'Without a length one byte is written.',
    'write-gpa/rest-of-source',
    onHandle(
      'writeGpa',
      (original) => (gpa, buffer, offset, length) => original(gpa, buffer, offset, length ?? (offset === undefined ? undefined : 1)),
    ),
  ],
  [
    'late',
    'The write reaches memory with the next exit.',
    'access/ram-host-write-reaches-spinning-guest',
    (backend) => {
      const waiting: (() => void)[] = [];
      all(
        onHandle('doWriteGpa', (original) => (gpa, buffer, offset, length) => {
          const bytes = buffer.slice(offset, offset + length);
          waiting.push(() => original(gpa, bytes, 0, length));
        }),
        onRequests('complete', (original) => (request) => {
          for (const run of waiting.splice(0)) run();
          original(request);
        }),
      )(backend);
    },
  ],
]);

export const MEMORY_MUTANTS: readonly Mutant[] = [...read, ...write];
