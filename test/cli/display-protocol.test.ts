/** Frames, requests and updates of the display socket, and the rows between two pictures. */
import t from 'tap';
import {
  type DisplayUpdate,
  decodeRequest,
  decodeUpdate,
  displaySocketPath,
  encodeFrame,
  encodeUpdate,
  type Frame,
  FrameReader,
  REQUEST_LIMITS,
} from '../../src/cli/display/protocol.js';
import { applyUpdate, rangesOf, updateBetween } from '../../src/cli/display/rows.js';
import { MptError } from '../../src/core/errors.js';
import type { Picture } from '../../src/core/vfio/device.js';
import { refused } from '../core/expect.js';
import { Random } from '../core/random.js';
import { FakeDisplay } from './fake-display.js';

const LIMITS = { header: 100, payload: 1000 };
const frame = (header: unknown, payload: Uint8Array = new Uint8Array()): Frame => ({ header, payload });

t.test('frames come whole out of any pieces', async (t) => {
  t.equal(displaySocketPath('/run/a.sock'), '/run/a.sock.display');
  const sent: Frame[] = [
    frame({ op: 'picture' }),
    frame({ a: 'ä' }, Uint8Array.of(1, 2, 3)),
    frame([]),
    frame(0, new Uint8Array(1000).fill(7)),
    frame('x'),
  ];
  const bytes = Buffer.concat(sent.map(({ header, payload }) => encodeFrame(header, payload)));
  const random = new Random(0x77_1234);
  for (const step of [() => 1, () => 7, () => bytes.length, () => 1 + random.below(30)]) {
    const reader = new FrameReader(LIMITS);
    const got: Frame[] = [];
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + step());
      got.push(...reader.push(piece));
      at += piece.length;
    }
    t.same(
      got.map(({ header, payload }) => [header, [...payload]]),
      sent.map(({ header, payload }) => [header, [...payload]]),
    );
  }
  t.same([...new FrameReader(LIMITS).push(bytes.subarray(0, bytes.length - 1))].length, sent.length - 1, 'the last is not there yet');
});

t.test('frames past the limits, and headers that are none', async (t) => {
  const prefix = (header: number, payload: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(header, 0);
    bytes.writeUInt32LE(payload, 4);
    return bytes;
  };
  const push = (bytes: Uint8Array): Frame[] => [...new FrameReader(LIMITS).push(bytes)];
  t.equal(push(prefix(100, 1000)).length, 0, 'at the limit it is waited for');
  t.match(
    refused(t, 'LIMIT', () => push(prefix(101, 0))),
    { size: 101, limit: 100, message: /header/ },
  );
  t.match(
    refused(t, 'LIMIT', () => push(prefix(1, 1001))),
    { size: 1001, limit: 1000, message: /payload/ },
  );
  refused(t, 'LIMIT', () => push(prefix(0xffff_ffff, 0xffff_ffff)));
  refused(t, 'INVALID_ARGUMENT', () => push(prefix(0, 10)));
  for (const text of ['{', ' ', "{'op':1}", '\u0000'])
    refused(t, 'INVALID_ARGUMENT', () => push(Buffer.concat([prefix(text.length, 0), Buffer.from(text)])), JSON.stringify(text));
  refused(t, 'LIMIT', () => [...new FrameReader(REQUEST_LIMITS).push(prefix(10, 2 ** 24 + 1))], 'a request is no longer than a saved vGPU');
});

t.test('requests', async (t) => {
  t.same(decodeRequest(frame({ op: 'picture', more: 1 })), { op: 'picture' });
  for (const intervalMs of [10, 40, 10_000]) t.same(decodeRequest(frame({ op: 'watch', intervalMs })), { op: 'watch', intervalMs });
  for (const intervalMs of [9, 10_001, 0, -40, 40.5, '40', null, undefined, Number.NaN])
    refused(t, 'INVALID_ARGUMENT', () => decodeRequest(frame({ op: 'watch', intervalMs })), `interval ${intervalMs}`);
  for (const header of [null, 1, 'picture', [], {}, { op: 'Picture' }, { op: 1 }, { op: 'constructor' }])
    refused(t, 'INVALID_ARGUMENT', () => decodeRequest(frame(header)), JSON.stringify(header));
});

const PLANE = { kind: 'primary', width: 1, height: 1, left: 0, top: 0, format: 'XRGB8888', tiling: 'x' } as const;

t.test('updates there and back, and what is none', async (t) => {
  const updates: DisplayUpdate[] = [
    { type: 'off' },
    { type: 'picture', width: 2, height: 1, rgba: Uint8Array.of(1, 2, 3, 255, 4, 5, 6, 255) },
    { type: 'picture', width: 1, height: 1, rgba: Uint8Array.of(1, 2, 3, 255), planes: [PLANE, { ...PLANE, kind: 'cursor', left: -3 }] },
    {
      type: 'rows',
      width: 1,
      height: 9,
      ranges: [
        [0, 1],
        [4, 2],
        [8, 1],
      ],
      rgba: new Uint8Array(16).fill(3),
    },
  ];
  for (const update of updates) {
    const [got] = new FrameReader({ ...LIMITS, header: 1000 }).push(encodeUpdate(update));
    const { rgba = [], ...rest } = decodeUpdate(got as Frame) as DisplayUpdate & { rgba?: Uint8Array };
    t.same({ ...rest, rgba: [...rgba] }, { ...update, rgba: update.type === 'off' ? [] : [...update.rgba] });
  }
  const pixels = (count: number): Uint8Array => new Uint8Array(count * 4);
  const bad: [unknown, Uint8Array][] = [
    [null, pixels(0)],
    ['off', pixels(0)],
    [{ type: 'on' }, pixels(0)],
    [{ type: 'picture' }, pixels(0)],
    [{ type: 'picture', width: 0, height: 1 }, pixels(0)],
    [{ type: 'picture', width: 2, height: 2 }, pixels(3)],
    [{ type: 'picture', width: 2, height: 2 }, pixels(5)],
    [{ type: 'picture', width: 2.5, height: 2 }, pixels(5)],
    [{ type: 'picture', width: -1, height: -1 }, pixels(1)],
    [{ type: 'picture', width: 2 ** 32, height: 1 }, pixels(1)],
    ...[
      1,
      [1],
      [{}],
      Array(4).fill(PLANE),
      ...[{ kind: 'overlay' }, { width: 0 }, { height: -1 }, { left: 0.5 }, { top: 1e6 }, { format: 'a\nb' }, { tiling: 'z' }].map(
        (change) => [{ ...PLANE, ...change }],
      ),
    ].map((planes): [unknown, Uint8Array] => [{ type: 'picture', width: 1, height: 1, planes }, pixels(1)]),
    [{ type: 'rows', width: 1, height: 4 }, pixels(1)],
    ...[
      [[0]],
      [[0, 0]],
      [[0, 5]],
      [[3, 2]],
      [[-1, 1]],
      [[0.5, 1]],
      [
        [1, 1],
        [1, 1],
      ],
      [
        [2, 1],
        [0, 1],
      ],
      [['0', 1]],
      [null],
      'x',
      {},
    ].map((ranges): [unknown, Uint8Array] => [{ type: 'rows', width: 1, height: 4, ranges }, pixels(1)]),
    [{ type: 'rows', width: 1, height: 4, ranges: [[0, 2]] }, pixels(1)],
    [{ type: 'error' }, pixels(0)],
  ];
  for (const [header, payload] of bad) refused(t, 'INVALID_ARGUMENT', () => decodeUpdate(frame(header, payload)), JSON.stringify(header));
  const told = new MptError('STOPPED', 'the device thread ended', { op: 'serve' });
  const error = refused(t, 'STOPPED', () => decodeUpdate(frame({ type: 'error', error: JSON.parse(JSON.stringify(told)) })));
  t.equal(error.message, told.message);
});

t.test('ranges of rows', async (t) => {
  const of = (rows: readonly number[], height: number) => rangesOf(height, (row) => rows.includes(row));
  t.same(of([], 5), []);
  t.same(of([], 0), []);
  t.same(of([0], 1), [[0, 1]]);
  t.same(of([0, 1, 2, 3, 4], 5), [[0, 5]]);
  t.same(of([0, 2, 3, 6], 7), [
    [0, 1],
    [2, 2],
    [6, 1],
  ]);
});

t.test('the update between two pictures, and the picture after it', async (t) => {
  const display = new FakeDisplay();
  const first = display.show(3, 6);
  t.same(updateBetween(null, first), { type: 'picture', ...first });
  t.same(updateBetween(undefined, first), { type: 'picture', ...first }, 'from off');
  t.equal(updateBetween(first, first), undefined);
  t.equal(updateBetween(first, { ...first, rgba: first.rgba.slice() }), undefined, 'equal pixels in another buffer');
  t.equal(updateBetween(undefined, undefined), undefined);
  t.same(updateBetween(null, undefined), { type: 'off' });
  t.same(updateBetween(first, undefined), { type: 'off' });
  const second = display.paint([0, 3, 4], [1, 2, 3]);
  const update = updateBetween(first, second) as DisplayUpdate & { type: 'rows' };
  t.same(update.ranges, [
    [0, 1],
    [3, 2],
  ]);
  t.same([...update.rgba], new Array(9).fill([1, 2, 3, 255]).flat(), 'the pixels of those rows');
  const copy: Picture = { ...first, rgba: first.rgba.slice() };
  t.same(applyUpdate(copy, update)?.rgba, second.rgba);
  t.equal(applyUpdate(copy, { type: 'off' }), undefined);
  t.equal(applyUpdate(undefined, update), undefined, 'rows of nothing');
  t.equal(applyUpdate({ width: 6, height: 3, rgba: first.rgba }, update), undefined, 'rows of another size');
  const last = second.rgba.slice();
  last[last.length - 2] = 99;
  t.same((updateBetween(second, { ...second, rgba: last }) as { ranges: unknown }).ranges, [[5, 1]], 'one byte at the end');
  const wide = new FakeDisplay().show(6, 3);
  t.equal(updateBetween(second, wide)?.type, 'picture', 'as many pixels in another shape');
  // Views into a larger buffer compare by their own bytes.
  const shifted = new Uint8Array(first.rgba.length + 5);
  shifted.set(first.rgba, 5);
  t.equal(updateBetween(first, { ...first, rgba: shifted.subarray(5) }), undefined);
});
