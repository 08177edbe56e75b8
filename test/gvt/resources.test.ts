/** What a GPU is divided into: types, explicit resources, the pool that gives and takes back. */
import t from 'tap';
import { Bdf } from '../../src/core/addresses.js';
import { MptError } from '../../src/core/errors.js';
import { DEFAULT_GPU, type GpuSize, HOST_RESERVE } from '../../src/core/gvt/device-info.js';
import { type ExplicitResources, vgpuType } from '../../src/core/gvt/explicit-resources.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { ResourcePool, type VgpuResources } from '../../src/core/gvt/resources.js';
import { describeType, typesOf, type VgpuType } from '../../src/core/gvt/types.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import { Random } from '../core/random.js';
import { MemoryBackend, VM } from './memory-backend.js';

const MIB = 0x10_0000;
const GIB = 0x4000_0000;
const device = (number: number): Bdf => Bdf(number << 3);

t.test('types and how many of each fit', async (t) => {
  const available = (aperture: number, fences = 32): Record<string, number> => {
    const gvt = new Gvt(new MemoryBackend(), { aperture, fences });
    const counts = Object.fromEntries(gvt.types.map(({ name }) => [name, gvt.availableInstances(name)]));
    gvt.destroy();
    return counts;
  };
  t.strictSame(available(128 * MIB), {});
  t.strictSame(available(256 * MIB), { GVTg_V4_8: 2, GVTg_V4_4: 1 });
  t.strictSame(available(512 * MIB), { GVTg_V4_8: 6, GVTg_V4_4: 3, GVTg_V4_2: 1 });
  t.strictSame(available(GIB), { GVTg_V4_8: 7, GVTg_V4_4: 5, GVTg_V4_2: 2, GVTg_V4_1: 1 });
  t.strictSame(available(GIB, 12), { GVTg_V4_8: 2, GVTg_V4_4: 2, GVTg_V4_2: 2, GVTg_V4_1: 1 }, 'fences are the limit');
  const gvt = new Gvt(new MemoryBackend(), { aperture: 256 * MIB });
  t.equal(describeType(gvt.types[1] as never), 'low_gm_size: 128MB\nhigh_gm_size: 512MB\nfence: 4\nresolution: 1920x1200\nweight: 4');
  gvt.createVgpu({ type: 'GVTg_V4_4', vmId: VM });
  t.equal(gvt.availableInstances('GVTg_V4_8'), 0);
  t.throws(() => gvt.createVgpu({ type: 'GVTg_V4_2', vmId: VM }), {
    code: 'BAD_TYPE',
    message: /needs more aperture.*GVTg_V4_8, GVTg_V4_4/,
  });
  t.throws(() => gvt.createVgpu({ type: 'gvtg_v4_8', vmId: VM }), { code: 'BAD_TYPE', message: /did you mean GVTg_V4_8/ });
  t.throws(() => gvt.availableInstances('x'), { code: 'BAD_TYPE' });
  t.throws(() => gvt.createVgpu({ type: 'GVTg_V5_8', vmId: VM }), {
    code: 'BAD_TYPE',
    message: /GVTg_V5_8 is of generation 9, this GPU is of generation 8; types of this GPU: GVTg_V4_8/,
  });
  for (const options of [
    { aperture: 64 * MIB },
    { aperture: 300 * MIB },
    { aperture: 2 * GIB },
    { ggtt: 3 * GIB },
    { aperture: GIB, ggtt: GIB },
    { fences: 3 },
    { fences: 33 },
    { generation: 7 as 8 },
  ])
    t.throws(() => new Gvt(new MemoryBackend(), options), { code: 'INVALID_ARGUMENT' }, JSON.stringify(options));
});

t.test('resources are disjoint, exhausted with an error, and given back exactly', async (t) => {
  const backend = new MemoryBackend();
  const gvt = new Gvt(backend);
  const all: Vgpu[] = [];
  for (let i = 0; i < 6; i++) all.push(gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: device(i + 2) }));
  t.strictSame(
    all.map(({ id }) => id),
    [1, 2, 3, 4, 5, 6],
  );
  t.strictSame(
    all.map(({ resources }) => resources.aperture.start / MIB),
    [128, 192, 256, 320, 384, 448],
  );
  t.strictSame(
    all.map(({ resources }) => resources.hidden.start / MIB),
    [896, 1280, 1664, 2048, 2432, 2816],
  );
  t.strictSame(
    all.flatMap(({ resources }) => [...resources.fences]),
    Array.from({ length: 24 }, (_, i) => i + 4),
  );
  t.throws(() => gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: device(20) }), { code: 'NO_SPACE', message: /aperture/ });
  t.equal(backend.attachedCount, 6);
  for (const i of [1, 3]) gvt.destroyVgpu(all[i] as Vgpu);
  t.equal(gvt.availableInstances('GVTg_V4_4'), 0, 'enough in all, but in two holes');
  t.throws(() => gvt.createVgpu({ type: 'GVTg_V4_4', vmId: VM, bdf: device(20) }), {
    code: 'NO_SPACE',
    message: /aperture in one piece.*size 134217728, limit 67108864/,
  });
  gvt.destroyVgpu(all[2] as Vgpu);
  const big = gvt.createVgpu({ type: 'GVTg_V4_4', vmId: VM, bdf: device(20) });
  t.strictSame(
    [big.id, big.resources.aperture.start / MIB, [...big.resources.fences]],
    [2, 192, [8, 9, 10, 11]],
    'lowest id and first fit',
  );
  for (const vgpu of [...gvt.vgpus]) gvt.destroyVgpu(vgpu);
  t.equal(gvt.availableInstances('GVTg_V4_8'), 6);
  t.equal(gvt.createVgpu({ type: 'GVTg_V4_2', vmId: VM }).resources.aperture.start, 128 * MIB);

  const many = new Gvt(new MemoryBackend(), { aperture: GIB });
  for (let i = 0; i < 7; i++) many.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: device(i) });
  t.throws(() => many.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: device(9) }), { code: 'NO_SPACE' });
  t.equal(many.availableInstances('GVTg_V4_8'), 0);

  // What a refused creation took before it was refused is given back: the reason stays the same however often it is tried.
  for (const [type, fences, fit, lacks] of [
    ['GVTg_V4_4', 32, 5, 'hidden memory'],
    ['GVTg_V4_8', 12, 2, 'fences'],
  ] as const) {
    const tight = new Gvt(new MemoryBackend(), { aperture: GIB, fences });
    for (let i = 0; i < fit; i++) tight.createVgpu({ type, vmId: VM, bdf: device(i) });
    for (let i = 0; i < 20; i++)
      t.throws(() => tight.createVgpu({ type, vmId: VM, bdf: device(9) }), {
        code: 'NO_SPACE',
        message: new RegExp(`not enough ${lacks}`),
      });
  }
});

t.test('generation 9 is divided alike, under its own names', async (t) => {
  const gpu: GpuSize = { ...DEFAULT_GPU, aperture: GIB, generation: 9 };
  t.strictSame(
    typesOf(gpu).map(({ name, ...rest }) => rest),
    typesOf({ ...gpu, generation: 8 }).map(({ name, ...rest }) => rest),
  );
  t.strictSame(
    typesOf(gpu).map(({ name, weight }) => [name, weight]),
    [
      ['GVTg_V5_8', 2],
      ['GVTg_V5_4', 4],
      ['GVTg_V5_2', 8],
      ['GVTg_V5_1', 16],
    ],
  );
  t.equal(new ResourcePool(gpu).available(vgpuType('GVTg_V5_4', {}, gpu)), 5);
  t.throws(() => new Gvt(new MemoryBackend(), { generation: 9 }), { code: 'UNSUPPORTED', message: /generation 9/ });
});

t.test('explicit resources take the place of the type’s', async (t) => {
  const gvt = new Gvt(new MemoryBackend());
  const resources = { aperture: 48 * MIB, hidden: 100 * MIB, fences: 2, weight: 3, resolution: { width: 1280, height: 800 } };
  t.equal(gvt.availableInstances('GVTg_V4_8', resources), 7, 'ids are the limit');
  t.equal(gvt.availableInstances('GVTg_V4_8', { fences: 10 }), 2);
  t.equal(gvt.availableInstances('GVTg_V4_8', { hidden: GIB }), 3);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', resources, vmId: VM });
  t.strictSame(
    [vgpu.resources.aperture, vgpu.resources.hidden, vgpu.resources.fences],
    [{ start: 128 * MIB, size: 48 * MIB }, { start: 896 * MIB, size: 100 * MIB }, [4, 5]],
  );
  t.strictSame(vgpu.type, { name: 'GVTg_V4_8', ...resources });
  t.equal(vgpu.registers.get(0x7_8044), 48 * MIB, 'the guest is told');
  t.equal(vgpu.registers.get(0x7_804c), 100 * MIB);
  t.equal(vgpu.registers.get(0x7_8050), 2);
  t.equal(gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: device(3) }).resources.aperture.start, 176 * MIB, 'right behind it');

  const refused = (explicit: ExplicitResources, message: RegExp): void =>
    void t.throws(() => gvt.createVgpu({ type: 'GVTg_V4_8', resources: explicit, vmId: VM, bdf: device(4) }), {
      code: 'INVALID_ARGUMENT',
      message,
    });
  refused({ aperture: 15 * MIB }, /the aperture of 15 MiB cannot.*size 15728640, limit 16777216.*take 16 MiB to 384 MiB, in whole MiB/);
  refused({ aperture: 385 * MIB }, /aperture of 385 MiB.*limit 402653184/);
  refused({ aperture: 64 * MIB + 4096 }, /in whole MiB/);
  refused({ aperture: Number.NaN }, /aperture/);
  refused({ hidden: 31 * MIB }, /hidden memory of 31 MiB.*take 32 MiB to 3200 MiB/);
  refused({ hidden: 4 * GIB }, /hidden memory of 4096 MiB/);
  refused({ fences: 0 }, /number of fences of 0.*take 1 to 28/);
  refused({ fences: 29 }, /number of fences of 29.*limit 28/);
  refused({ weight: 0 }, /weight of 0.*take 1 to 256/);
  refused({ weight: 257 }, /weight of 257.*limit 256/);
  refused({ weight: 1.5 }, /weight of 1.5/);
  refused({ resolution: { width: 1366, height: 768 } }, /1366x768.*width is 1366.*in steps of 8/);
  refused({ resolution: { width: 640, height: 479 } }, /height is 479.*height 480 to 1600/);
  refused({ resolution: { width: 2568, height: 1200 } }, /width is 2568/);
  refused({ resolution: { width: 2560, height: 1600 } }, /2560x1600 needs 268.5 MHz, and the monitor's link has 165/);
  t.throws(() => vgpuType('GVTg_V4_8', { fences: 1 }, { ...DEFAULT_GPU, fences: 4 }), { message: /none left beside the host/ });
  t.equal(gvt.vgpus.length, 2);
});

t.test('a share that another pool gave', async (t) => {
  const pool = new ResourcePool(DEFAULT_GPU);
  const type = vgpuType('GVTg_V4_8', { aperture: 96 * MIB, fences: 6 }, DEFAULT_GPU);
  const [first, second] = [pool.take(type), pool.take(type)];
  // Each device thread has a device model of its own, which gets its share as a message.
  const models = [first, second].map((share) => {
    const gvt = new Gvt(new MemoryBackend());
    return { gvt, vgpu: gvt.createVgpu({ type: 'GVTg_V4_8', share: structuredClone(share), resources: { weight: 5 }, vmId: VM }) };
  });
  t.strictSame(
    models.map(({ vgpu }) => vgpu.resources),
    [first, second],
  );
  t.strictSame(
    models.map(({ vgpu: { id, type } }) => [id, type.aperture, type.fences, type.weight]),
    [
      [1, 96 * MIB, 6, 5],
      [2, 96 * MIB, 6, 5],
    ],
  );
  const [, other] = models as [unknown, { gvt: Gvt; vgpu: Vgpu }];
  const bad = (share: Partial<VgpuResources>, code: string, message: RegExp): void =>
    void t.throws(() => other.gvt.createVgpu({ type: 'GVTg_V4_8', share: { ...first, ...share }, vmId: VM, bdf: device(5) }), {
      code,
      message,
    });
  const space = (start: number, size: number): { start: number; size: number } => ({ start, size });
  bad({ id: 2 as never }, 'OVERLAP', /id/);
  bad({ id: 0 as never }, 'INVALID_ARGUMENT', /id/);
  bad({ id: 8 as never }, 'INVALID_ARGUMENT', /id/);
  bad({ aperture: space(second.aperture.start + 95 * MIB, 96 * MIB) }, 'OVERLAP', /the aperture/);
  bad({ aperture: space(127 * MIB, 32 * MIB) }, 'INVALID_ARGUMENT', /the aperture.*limit 536870912/);
  bad({ aperture: space(448 * MIB, 96 * MIB) }, 'INVALID_ARGUMENT', /the aperture/);
  bad({ aperture: space(128 * MIB + 1, 96 * MIB) }, 'INVALID_ARGUMENT', /whole pages/);
  bad({ aperture: space(128 * MIB, 0) }, 'INVALID_ARGUMENT', /whole pages/);
  bad({ hidden: second.hidden }, 'OVERLAP', /the hidden memory/);
  bad({ fences: [4, 4] }, 'OVERLAP', /fence/);
  bad({ fences: [3] }, 'OVERLAP', /fence/);
  bad({ fences: [second.fences[0] as number] }, 'OVERLAP', /fence/);
  // None of the refusals kept anything.
  t.equal(other.gvt.createVgpu({ type: 'GVTg_V4_8', share: first, vmId: VM, bdf: device(5) }).id, 1);
  other.gvt.destroyVgpu(other.vgpu);
  pool.release(second);
  t.strictSame(pool.take(type), second);
});

/** What is free, as plain sets: the slow and obvious way that the pool is held against. */
class Model {
  readonly taken = new Map<number, VgpuResources>();

  readonly #gpu: GpuSize;

  constructor(gpu: GpuSize) {
    this.#gpu = gpu;
  }

  /** Free MiB of [first, end) MiB. */
  #free(first: number, end: number, of: (share: VgpuResources) => { start: number; size: number }): boolean[] {
    const free = Array.from({ length: end }, (_, i) => i >= first);
    for (const share of this.taken.values()) {
      const { start, size } = of(share);
      free.fill(false, start / MIB, (start + size) / MIB);
    }
    return free;
  }

  #fits(free: readonly boolean[], size: number): number[] {
    const places: number[] = [];
    let run = 0;
    for (const [i, is] of free.entries()) {
      run = is ? run + 1 : 0;
      if (run * MIB !== size) continue;
      places.push((i + 1) * MIB - size);
      run = 0;
    }
    return places;
  }

  places(type: VgpuType): { ids: number[]; aperture: number[]; hidden: number[]; fences: number[] } {
    const gpu = this.#gpu;
    const used = new Set([...this.taken.values()].flatMap(({ fences }) => fences));
    return {
      ids: [1, 2, 3, 4, 5, 6, 7].filter((id) => !this.taken.has(id)),
      aperture: this.#fits(
        this.#free(HOST_RESERVE.aperture / MIB, gpu.aperture / MIB, ({ aperture }) => aperture),
        type.aperture,
      ),
      hidden: this.#fits(
        this.#free((gpu.aperture + HOST_RESERVE.hidden) / MIB, gpu.ggtt / MIB, ({ hidden }) => hidden),
        type.hidden,
      ),
      fences: Array.from({ length: gpu.fences }, (_, i) => i).filter((i) => i >= HOST_RESERVE.fences && !used.has(i)),
    };
  }
}

t.test('allocation and release are exact, whatever comes in whatever order', async (t) => {
  const random = new Random(0x20260131);
  let takes = 0;
  let refusals = 0;
  for (let round = 0; round < 40; round++) {
    const gpu: GpuSize = { aperture: random.pick([256, 512, 1024]) * MIB, ggtt: random.pick([2, 4]) * GIB, fences: 8 + random.below(25) };
    const pool = new ResourcePool(gpu);
    const model = new Model(gpu);
    for (let step = 0; step < 40; step++) {
      if (random.below(3) === 0 && model.taken.size > 0) {
        const share = random.pick([...model.taken.values()]);
        pool.release(share);
        pool.release(share);
        model.taken.delete(share.id);
        continue;
      }
      const type: VgpuType = {
        ...(typesOf(gpu)[0] as VgpuType),
        aperture: (1 + random.below(160)) * MIB,
        hidden: (1 + random.below(900)) * MIB,
        fences: 1 + random.below(8),
      };
      const { ids, aperture, hidden, fences } = model.places(type);
      const count = Math.min(ids.length, aperture.length, hidden.length, Math.floor(fences.length / type.fences));
      if (pool.available(type) !== count) t.equal(pool.available(type), count, `round ${round}, step ${step}`);
      try {
        const share = pool.take(type);
        takes++;
        const expected = {
          id: ids[0],
          aperture: { start: aperture[0], size: type.aperture },
          hidden: { start: hidden[0], size: type.hidden },
          fences: fences.slice(0, type.fences),
        };
        if (JSON.stringify(share) !== JSON.stringify(expected)) t.strictSame(share, expected, `round ${round}, step ${step}`);
        model.taken.set(share.id, share);
      } catch (error) {
        refusals++;
        if (!MptError.is(error, 'NO_SPACE') || count > 0) t.fail(`round ${round}, step ${step}`, { error, count });
      }
    }
    for (const share of model.taken.values()) pool.release(share);
    t.strictSame(pool.take(typesOf(gpu)[0] as VgpuType), new ResourcePool(gpu).take(typesOf(gpu)[0] as VgpuType));
  }
  t.ok(takes > 300 && refusals > 200, `${takes} taken, ${refusals} refused`);
});
