/** Documents that are damaged, of something else, or made by somebody who means harm: refused in a sentence, and nothing is kept. */
import fc from 'fast-check';
import t from 'tap';
import { MptError } from '../../src/core/errors.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { parseDocument } from '../../src/core/gvt/state/document.js';
import type { StateHeader } from '../../src/core/gvt/state/header.js';
import { MemoryBackend, VM } from '../gvt/memory-backend.js';
import { BLITS, busy } from './busy-fixture.js';
import { assemble, withHeader, withSection } from './forge.js';

const STATE = saved('fill');
const SECTIONS = ['vgpu', 'config', 'opregion', 'registers', 'ggtt', 'ppgtt', 'submission', 'display', 'statistics'] as const;

function saved(...what: Parameters<typeof busy>): Uint8Array {
  const { gvt, vgpu } = busy(...what);
  return gvt.saveVgpu(vgpu);
}

/** A device model whose clock stands where the saved one stood. */
function target(): { backend: MemoryBackend; gvt: Gvt; time: { ns: number } } {
  const backend = new MemoryBackend();
  const time = { ns: 5e9 };
  return { backend, gvt: new Gvt(backend, { now: () => time.ns }), time };
}

const kept = ({ backend, gvt }: { backend: MemoryBackend; gvt: Gvt }): unknown => [
  gvt.vgpus.length,
  backend.attachedCount,
  backend.mapped.size,
  backend.traps.size,
  backend.tracked.size,
  gvt.availableInstances('GVTg_V4_8'),
];
const NOTHING = [0, 0, 0, 0, 0, new Gvt(new MemoryBackend()).availableInstances('GVTg_V4_8')];

/** @returns what the document is refused with, or undefined */
function refusal(state: Uint8Array, into = target()): MptError | undefined {
  try {
    into.gvt.restoreVgpu({ vmId: VM }, state);
    return undefined;
  } catch (error) {
    if (!MptError.is(error)) throw error;
    if (JSON.stringify(kept(into)) !== JSON.stringify(NOTHING)) throw new Error(`kept after '${error.message}': ${kept(into)}`);
    return error;
  }
}

function refused(name: string, state: Uint8Array, message: RegExp): void {
  const error = refusal(state);
  t.match(error, { code: 'BAD_STATE', op: 'restore_vgpu', message }, name);
  t.notMatch(error?.message, /[\r\n]/, 'one line');
}

t.test('the document itself is accepted', async (t) => {
  const into = target();
  t.equal(refusal(STATE, into), undefined);
  into.gvt.destroy();
  t.strictSame([into.backend.mapped.size, into.backend.traps.size, into.backend.attachedCount], [0, 0, 0]);
});

t.test('each flipped bit is found', async (t) => {
  const headerEnd = 20 + Buffer.from(STATE).readUInt32LE(12);
  const accepted: number[] = [];
  const flip = (bit: number): void => {
    const copy = Uint8Array.from(STATE);
    copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
    try {
      target().gvt.restoreVgpu({ vmId: VM }, copy);
      accepted.push(bit);
    } catch (error) {
      if (!MptError.is(error, 'BAD_STATE')) throw error;
    }
  };
  for (let bit = 0; bit < headerEnd * 8; bit += 5) flip(bit);
  for (let byte = headerEnd; byte < STATE.length; byte += 911) flip(byte * 8 + (byte % 8));
  t.strictSame(accepted, []);
});

t.test('each cut is found, and each addition', async (t) => {
  const headerEnd = 20 + Buffer.from(STATE).readUInt32LE(12);
  for (let length = 0; length < headerEnd; length += 7) t.equal(refusal(STATE.subarray(0, length))?.code, 'BAD_STATE', `${length} bytes`);
  for (let length = headerEnd; length < STATE.length; length += 4999) t.match(refusal(STATE.subarray(0, length)), { message: /truncated/ });
  refused('one byte more', Buffer.concat([STATE, Buffer.of(0)]), /something follows the saved state/);
  refused('nothing', new Uint8Array(), /this is no saved vGPU/);
  refused('another file', Buffer.from('\x89PNG\r\n\x1a\n'.padEnd(4096, 'x')), /this is no saved vGPU/);
  refused('too large', new Uint8Array((1 << 24) + 1), /too large for a saved vGPU \(size 16777217, limit 16777216\)/);
});

/** The document with one value of its header changed: `path` as a message names it; undefined takes it away. */
function changed(path: string, value: unknown): Uint8Array {
  return withHeader(STATE, (header) => {
    const names = path.slice(1).split('/');
    const last = names.pop() as string;
    const parent = names.reduce((at, name) => at[name] as Record<string, unknown>, header);
    if (value === undefined) delete parent[last];
    else parent[last] = value;
  });
}

t.test('headers', async () => {
  const { aperture, hidden } = (parseDocument(STATE).header as StateHeader).vgpu;
  refused('version of the prefix', assemble({}, [], 2), /format version 2, and this program knows 1/);
  refused('no JSON', assemble('{', []), /no JSON/);
  refused('no header', assemble('', []), /no JSON/);
  refused('a list', assemble([], []), /header is not accepted: \/ is an object or list/);
  refused('prototype', assemble('{"__proto__":{"format":"mpt-vgpu-state"}}', []), /__proto__ is not known/);
  for (const [path, value, message] of [
    ['/format', 'x', /\/format is "x"/],
    ['/version', 2, /\/version is 2/],
    ['/extra', 1, /\/extra is not known/],
    ['/gpu', undefined, /\/gpu is missing/],
    ['/device', '8086:1912', /is the device 8086:1912, and this one is 8086:1616/],
    ['/gpu/ggtt', 2 ** 31, /its ggtt is 2147483648, and this one’s 4294967296/],
    ['/gpu/fences', 16, /another GPU: its fences is 16/],
    ['/vgpu/type', 'GVTg_V9_1', /no vGPU type is named 'GVTg_V9_1'/],
    ['/vgpu/type', 'x'.repeat(65), /\/vgpu\/type is "xxx/],
    ['/vgpu/aperture/start', aperture.start + 2 ** 26, /registers: PVINFO describes another vGPU at 0x40/],
    ['/vgpu/aperture/size', 4096, /aperture of .* cannot be a vGPU's/],
    ['/vgpu/hidden/size', hidden.size + 2 ** 20, /registers: PVINFO describes another vGPU at 0x4c/],
    ['/vgpu/fences', 5, /PVINFO describes another vGPU at 0x50/],
    ['/vgpu/display', false, /another display/],
    ['/vgpu/resolution/width', 0, /\/vgpu\/resolution\/width is 0/],
    ...[-1, 1.5, 1e300, null, 'x', true, [], {}].map((id) => ['/vgpu/id', id, /\/vgpu\/id is/] as const),
  ] as const)
    refused(`${path} ${value}`, changed(path, value), message);
  t.match(refusal(changed('/vgpu/aperture/start', 0)), { code: 'INVALID_ARGUMENT' }, "the host's aperture");
  t.match(refusal(changed('/vgpu/aperture/start', aperture.start + 5)), { code: 'INVALID_ARGUMENT' }, 'no page');
});

t.test('sections', async () => {
  const table = parseDocument(STATE).header.sections;
  refused('one missing', changed('/sections', table.slice(1)), /something follows/);
  refused('another order', changed('/sections', table.toReversed()), /damaged/);
  refused('another name', changed('/sections/2/name', 'other'), /has the sections vgpu, config, other/);
  refused('twice', changed('/sections/2/name', 'vgpu'), /'vgpu' .* is there twice/);
  refused('a size that lies', changed('/sections/2/bytes', 2), /truncated/);
  refused('far past the end', changed('/sections/0/bytes', 2 ** 26), /truncated/);
  refused('too many', changed('/sections', new Array(33).fill(table[0])), /\/sections is no list of at most 32/);
  for (const name of SECTIONS) {
    refused(
      `${name} with more`,
      withSection(STATE, name, (bytes) => Buffer.concat([bytes, Buffer.of(0)])),
      /1 bytes are left over/,
    );
    refused(
      `${name} cut`,
      withSection(STATE, name, (bytes) => bytes.subarray(0, bytes.length - 1)),
      /the section ends before it/,
    );
    refused(
      `${name} empty`,
      withSection(STATE, name, () => new Uint8Array()),
      /the section ends before it/,
    );
  }
});

t.test('fields that no guest can have brought about', async () => {
  const patch = (name: string, at: number, ...values: number[]): Uint8Array =>
    withSection(STATE, name, (bytes) => {
      bytes.set(values, at);
      return bytes;
    });
  refused('vendor id', patch('config', 0, 0x87), /config: byte 0x0 is not this device’s/);
  refused('MSI id', patch('config', 0x90, 6), /config: byte 0x90 is not this device’s/);
  refused('command off', patch('config', 4, 0), /config.*the command register says otherwise/);
  // Behind the space: decoding, then BAR0's low, high, sizing, mapped.
  refused('BAR0 with other type bits', patch('config', 4097, 0x0f), /config.bars.BAR0: no guest can have written this/);
  refused('a bool of 2', patch('config', 4096, 2), /config.bars: decoding: 2 is neither 0 nor 1/);
  refused('time is NaN', patch('vgpu', 0, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f), /vgpu.clock: time: NaN is not in/);
  refused('time is negative', patch('vgpu', 7, 0xc0), /vgpu.clock: time: -.* is not in 0/);
  refused('time is of 2^57 and more', patch('vgpu', 0, 1, 0, 0, 0, 0, 0, 0x80, 0x43), /vgpu.clock: time: .* is not in 0/);
  refused('a run past the end', patch('registers', 4, 0xff, 0xff, 0xff, 0xff), /registers: file: the run of 4294967295 at/);
  refused('an end elsewhere', patch('registers', 4, 0, 0, 0, 0), /registers: file: it ends at/);
  refused('too many roots', patch('ppgtt', 0, 0xff, 0xff, 0xff, 0xff), /ppgtt: announced: 4294967295 is not in 0..65536/);
  refused('a counter of another name', patch('statistics', 8, 0x78), /statistics.counters: no counter is named/);
});

t.test('a BAR that was mapped must be mapped again', async (t) => {
  const into = target();
  into.backend.broken.add('trap');
  t.match(refusal(STATE, into), { code: 'BAD_STATE', message: /config.bars: BAR0 cannot be placed in this VM at 0xe0000000/ });
  into.backend.broken.delete('trap');
  t.equal(refusal(STATE, into), undefined);
});

t.test('what attaching refuses is told as it is', async (t) => {
  const into = target();
  into.backend.broken.add('attach');
  t.match(refusal(STATE, into), { code: 'HYPERVISOR' });
  t.throws(() => into.gvt.restoreVgpu({ vmId: 99 as never }, STATE), { code: 'VM_NOT_FOUND' });
  t.strictSame(kept(into), NOTHING);
});

/** Numbers at the edges of what fields are. */
const edge = fc.constantFrom(
  0,
  1,
  2,
  3,
  4,
  7,
  0xff,
  0x100,
  0xfff,
  0x1000,
  0x1fff,
  0xffff,
  0x1_0000,
  0x1f_fffc,
  0x7fff_ffff,
  0x8000_0000,
  0xffff_f000,
  0xffff_fffc,
  0xffff_ffff,
);
const change = fc.record({
  // Small sections hold the most fields.
  section: fc.constantFrom(...SECTIONS, 'submission', 'submission', 'submission', 'display', 'vgpu'),
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  value: fc.oneof(edge, fc.integer({ min: 0, max: 0xffff_ffff })),
  size: fc.constantFrom(1, 1, 2, 4),
});
const RUNS = 400;

t.test('forged sections: refused, or as harmless as a guest', { timeout: 120_000 }, async (t) => {
  const states = [...BLITS.map((blit) => saved(blit)), saved('fill', true, 'dp'), saved('fill', false)];
  let accepted = 0;
  let refusals = 0;
  fc.assert(
    fc.property(fc.nat(states.length - 1), fc.array(change, { minLength: 1, maxLength: 2 }), (which, changes) => {
      let state = states[which] as Uint8Array;
      for (const { section, at, value, size } of changes)
        state = withSection(state, section, (bytes) => {
          const offset = Math.min(Math.floor(at * bytes.length), bytes.length - size);
          for (let i = 0; i < size && offset >= 0; i++) bytes[offset + i] = value >>> (8 * i);
          return bytes;
        });
      const into = target();
      let vgpu: ReturnType<Gvt['restoreVgpu']>;
      try {
        vgpu = into.gvt.restoreVgpu({ vmId: VM }, state);
      } catch (error) {
        if (!MptError.is(error, 'BAD_STATE')) throw error;
        if (JSON.stringify(kept(into)) !== JSON.stringify(NOTHING)) throw new Error(`kept: ${JSON.stringify(kept(into))}`);
        refusals++;
        return;
      }
      accepted++;
      into.gvt.activate(vgpu);
      into.gvt.view(vgpu).picture();
      for (let slice = 0; slice < 6; slice++) {
        into.time.ns += 30e6;
        into.gvt.runSlice(400);
      }
      // What was accepted is a state that can be saved and restored.
      const again = into.gvt.saveVgpu(vgpu);
      into.gvt.destroyVgpu(vgpu);
      const next = into.gvt.restoreVgpu({ vmId: VM }, again);
      if (Buffer.compare(into.gvt.saveVgpu(next), again) !== 0) throw new Error('saved again it is another state');
      into.gvt.destroy();
      if (into.gvt.defects > 0) throw into.gvt.lastDefect;
      if (into.backend.mapped.size + into.backend.traps.size + into.backend.tracked.size > 0) throw new Error('something is kept');
    }),
    { seed: 0x57a7e, numRuns: RUNS },
  );
  t.ok(accepted > RUNS / 8 && refusals > RUNS / 8, `${accepted} accepted, ${refusals} refused`);
});
