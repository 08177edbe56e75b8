/**
 * A guest that points its planes at everything: two vGPUs on the simulation, one VM each. What the hostile one shows must not depend on
 * what is in the other's RAM: the same attack on two worlds that differ in nothing else gives the same pictures.
 */
import { createHash } from 'node:crypto';
import t from 'tap';
import { SimBackend } from '../../src/backends/sim/backend.js';
import type { SimMachine } from '../../src/backends/sim/machine.js';
import { Bdf, type Gpa } from '../../src/core/addresses.js';
import { decodePrimaryPlane } from '../../src/core/gvt/display/primary-plane.js';
import { decodeSpritePlane } from '../../src/core/gvt/display/sprite-plane.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import { Random } from '../core/random.js';

const PAGE = 4096;
const RAM_BYTES = 0x40_0000;
const BAR0 = 0xe000_0000;
const ENABLE = 0x8000_0000;
const ROUNDS = 3000;
/** Pages that each maps from its aperture's start on. */
const MAPPED = 512;
const [PIPESRC, PIPECONF] = [0x6_001c, 0x7_0008];
/** Registers of pipe A's planes; bits that are likely to make something of a control register. */
const PLANES = {
  primary: { control: 0x7_0180, stride: 0x7_0188, surface: 0x7_019c, offset: 0x7_01a4 },
  sprite: { control: 0x7_0280, stride: 0x7_0288, surface: 0x7_029c, offset: 0x7_02a4 },
} as const;
const [SPRPOS, SPRSIZE, CURCNTR, CURBASE, CURPOS, CUR_FBC] = [0x7_028c, 0x7_0290, 0x7_0080, 0x7_0084, 0x7_0088, 0x7_00a0];
const CONTROLS = {
  primary: [2, 5, 6, 8, 10, 14].map((format) => (ENABLE | (format << 26)) >>> 0),
  sprite: [1, 2].map((format) => (ENABLE | (format << 25)) >>> 0),
} as const;

interface Guest {
  readonly vgpu: Vgpu;
  readonly words: Uint32Array;
  write(offset: number, low: number, size?: number, high?: number): void;
}

function guestOf(backend: SimBackend, gvt: Gvt, bdf: number): Guest {
  const vm = backend.createMachine({ ram: [{ gpa: 0, size: RAM_BYTES }] }) as SimMachine;
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: vm.vmId, bdf: Bdf(bdf) });
  gvt.activate(vgpu);
  const value = new Uint32Array(2);
  const memory = vm.memory.view(0, RAM_BYTES);
  const self: Guest = {
    vgpu,
    words: new Uint32Array(memory.buffer, memory.byteOffset, RAM_BYTES / 4),
    write(offset, low, size = 4, high = 0) {
      value[0] = low;
      value[1] = high;
      gvt.emulateMmioWrite(vgpu.id, (BAR0 + offset) as Gpa, value, size);
    },
  };
  for (const [offset, size, data] of [
    [0x10, 4, BAR0],
    [0x04, 2, 2],
  ] as const) {
    value[0] = data;
    gvt.emulateCfgWrite(vgpu.id, offset, value, size);
  }
  const { start } = vgpu.resources.aperture;
  for (let page = 0; page < MAPPED; page++) self.write(0x80_0000 + (start / PAGE + page) * 8, page * PAGE + 1, 8);
  return self;
}

/** @returns hashes of all that the hostile guest could be seen to show, and how many pictures, sprites and cursors there were */
function attack(secret: number): { seen: string[]; shown: Record<string, number> } {
  const backend = new SimBackend();
  const gvt = new Gvt(backend);
  const victim = guestOf(backend, gvt, 0x10);
  const hostile = guestOf(backend, gvt, 0x18);
  victim.words.fill(secret);
  for (let i = 0; i < hostile.words.length; i++) hostile.words[i] = Math.imul(i, 0x9e37_79b1);
  // The other shows something too.
  victim.write(PIPESRC, (63 << 16) | 63);
  victim.write(PIPECONF, ENABLE);
  victim.write(PLANES.primary.control, CONTROLS.primary[2] as number);
  victim.write(PLANES.primary.stride, 256);
  victim.write(PLANES.primary.surface, victim.vgpu.resources.aperture.start);

  const random = new Random(0x9_1a2e);
  const [own, other] = [hostile.vgpu.resources, victim.vgpu.resources];
  const edges = [own.aperture, own.hidden, other.aperture, other.hidden].flatMap(({ start, size }) => [
    start,
    start - PAGE,
    start + PAGE,
    start + size - PAGE,
    start + size,
  ]);
  const inside = (): number => own.aperture.start + random.below(MAPPED) * PAGE;
  const address = (): number =>
    random.pick([
      inside,
      inside,
      inside,
      () => other.aperture.start + random.below(MAPPED) * PAGE,
      () => random.pick(edges),
      () => random.word(),
    ])() >>> 0;
  const small = (): number => random.pick([0, 1, 63, 64, 255, 256, 512, 1024, 4096, 0x1fff, random.word()]);
  const point = (): number => ((small() << 16) | (small() & 0xffff)) >>> 0;
  const shown: Record<string, number> = { picture: 0, sprite: 0, cursor: 0 };
  const seen: string[] = [];
  const note = (kind: string, bytes: Uint8Array): void => {
    shown[kind] = (shown[kind] as number) + 1;
    seen.push(createHash('sha1').update(bytes).digest('hex'));
  };
  hostile.write(PIPECONF, ENABLE);
  for (let round = 0; round < ROUNDS; round++) {
    // Entries of its own that name any frame, of which its VM has few.
    for (let i = random.below(4); i > 0; i--)
      hostile.write(0x80_0000 + Math.floor(address() / PAGE) * 8, (random.word() & 0x7f_f000) | 1, 8, random.pick([0, 0, 0, 1, 0x7f]));
    hostile.write(PIPESRC, random.pick([(63 << 16) | 63, (255 << 16) | 127, (1023 << 16) | 767, point()]));
    for (const name of ['primary', 'sprite'] as const) {
      const { control, stride, surface, offset } = PLANES[name];
      hostile.write(
        control,
        (random.pick(CONTROLS[name]) | (random.pick([0, 1 << 10, 1 << 15]) | (random.below(8) === 0 ? random.word() : 0))) >>> 0,
      );
      hostile.write(stride, random.pick([512, 1024, 2048, 4096, 4096, 8192, small()]));
      hostile.write(offset, random.below(3) === 0 ? point() : 0);
      hostile.write(surface, address());
    }
    hostile.write(SPRPOS, random.below(2) === 0 ? 0 : point());
    hostile.write(SPRSIZE, random.pick([(15 << 16) | 15, (63 << 16) | 63, point()]));
    hostile.write(CURCNTR, random.pick([0x27, 0x22, 0x23, 0x27 | (1 << 15), random.word()]));
    hostile.write(CURPOS, random.pick([0, 0x8010_8010, point()]));
    hostile.write(CUR_FBC, random.pick([0, 0, ENABLE | 31, random.word()]));
    hostile.write(CURBASE, address());
    gvt.runSlice(1);
    const picture = hostile.vgpu.queryPlane();
    if (picture !== undefined) note('picture', picture.rgba);
    if (decodePrimaryPlane(hostile.vgpu.registers, hostile.vgpu.scanout, 0) !== undefined) shown['primary'] = (shown['primary'] ?? 0) + 1;
    if (decodeSpritePlane(hostile.vgpu.registers, hostile.vgpu.scanout, 0) !== undefined) shown['sprite'] = (shown['sprite'] as number) + 1;
    if (hostile.vgpu.cursorPlane() !== undefined) shown['cursor'] = (shown['cursor'] as number) + 1;
  }
  const victimShows = victim.vgpu.queryPlane();
  if (victimShows === undefined) throw new Error('the victim shows nothing');
  if (gvt.defects > 0) throw gvt.lastDefect;
  gvt.destroy();
  backend.close();
  return { seen, shown };
}

t.test('what a guest shows does not depend on another one’s memory, wherever it points its planes', async (t) => {
  const [one, other] = [attack(0x00c0_ffee), attack(0xff12_3456)];
  t.same(one.shown, other.shown);
  for (const [what, count] of Object.entries(one.shown)) t.ok(count >= ROUNDS / 30, `${what}: ${count} of ${ROUNDS} rounds`);
  t.equal(new Set(one.seen).size > 100, true, 'of different pictures');
  const differs = one.seen.findIndex((hash, i) => hash !== other.seen[i]);
  t.equal(differs, -1, 'each picture is the same in both worlds');
});
