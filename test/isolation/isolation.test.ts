/**
 * Two vGPUs in two VMs, driven by real guests: whatever address one forges, the other's RAM and GGTT stay as they are, its secret stays its
 * own, and its work goes on. (Plane bases are in test/gvt/planes.test.ts.)
 */
import t from 'tap';
import { BACKENDS } from '../../src/backends/index.js';
import { bdf, Gfn, type Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import { dispatchRequest } from '../../src/core/gvt/dispatch.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { GpuDriver, requiredRam } from '../../src/guest/gpu-driver.js';
import { Attacker, BAR0, BAR2 } from './attacker.js';
import { type Address, ATTACKS, LOOKS, POISON } from './attacks.js';

t.setTimeout(300_000);

const RAM_BYTES = 0x40_0000;
/** What all of the victim's memory holds that nobody else uses. */
const SECRET = 0x5ec2_e75e;
const SIDE = 64;
const FREE = requiredRam(SIDE, SIDE);
const FRAMEBUFFER = FREE - SIDE * SIDE * 4;

/** A VM with a booted agent and a vGPU. */
function vm(backend: MptBackend, gvt: Gvt) {
  const machine = backend.createMachine({ ram: [{ gpa: 0, size: RAM_BYTES }] });
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId, bdf: bdf(0, 2, 0) });
  gvt.activate(vgpu);
  const agent = new GuestAgent(machine, (request) => void dispatchRequest(gvt, request), {
    onIdle: () => gvt.runSlice(4096),
    hasWork: () => gvt.hasWork,
  });
  const ram = (): Uint8Array => {
    const bytes = new Uint8Array(RAM_BYTES);
    vgpu.handle.readGpa(0 as Gpa, bytes);
    return bytes;
  };
  agent.boot();
  return { machine, vgpu, agent, ram };
}

/** All own GGTT entries, as the guest reads them. */
function entriesOf(gvt: Gvt, { id, resources, config }: Vgpu): Uint8Array {
  const { aperture, hidden } = resources;
  const halves = new Uint32Array(((aperture.size + hidden.size) / PAGE_SIZE) * 2);
  const value = new Uint32Array(2);
  let i = 0;
  for (const { start, size } of [aperture, hidden])
    for (let page = 0; page < size; page += PAGE_SIZE, i += 2) {
      gvt.emulateMmioRead(id, (config.bars.bar0 + 0x80_0000 + ((start + page) / PAGE_SIZE) * 8) as Gpa, value, 8);
      halves.set(value, i);
    }
  return new Uint8Array(halves.buffer);
}

const holds = (bytes: Uint8Array, word: number): boolean => {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  return words.includes(word);
};

for (const module of BACKENDS) {
  if (module.name !== 'sim' && module.name !== 'kvm') continue;
  const probe = module.probe();
  for (const first of ['attacker', 'victim'] as const)
    t.test(`${module.name}, the ${first} created first`, { skip: !probe.available && `${module.name}: ${probe.reason}` }, async (t) => {
      const backend = module.open();
      const gvt = new Gvt(backend);
      t.teardown(() => {
        gvt.destroy();
        backend.close();
      });
      const [one, two] = [vm(backend, gvt), vm(backend, gvt)];
      const [a, v] = first === 'attacker' ? [one, two] : [two, one];

      const driver = new GpuDriver(v.agent, SIDE, SIDE);
      v.vgpu.handle.writeGpa(FREE as Gpa, new Uint8Array(new Uint32Array((RAM_BYTES - FREE) / 4).fill(SECRET).buffer));
      driver.probe();
      driver.start();
      let drawn = 0;
      /** The victim's guest draws and looks: its fence, and the picture. */
      const work = (): void => {
        const color = 0x10_0000 + ++drawn;
        const seqno = driver.draw({
          name: 'work',
          blits: [
            { op: 'fill', x1: 0, y1: 0, x2: SIDE, y2: 32, color },
            { op: 'copy', x1: 0, y1: 32, x2: SIDE, y2: SIDE, sx: 0, sy: 0 },
          ],
        });
        t.equal(seqno, drawn, 'the victim’s fence');
        const picture = new Uint32Array(v.ram().buffer, FRAMEBUFFER, SIDE * SIDE);
        t.ok(
          picture.every((pixel) => pixel === color),
          'the victim’s picture',
        );
      };
      work();
      const attacker = new Attacker(a.agent, a.vgpu);
      let ram = v.ram();
      const entries = entriesOf(gvt, v.vgpu);
      t.ok(holds(ram, SECRET) && !holds(a.ram(), SECRET), 'only the victim has its secret');

      let attacks = 0;
      /** What an attack left: fails the test with its name, not for each byte. */
      const unharmed = (what: string): void => {
        attacks++;
        const now = v.ram();
        if (Buffer.compare(now, ram) !== 0) t.fail(`${what} changed the victim’s RAM`);
        ram = now;
        if (v.vgpu.failsafe || v.vgpu.submission.hasWork) t.fail(`${what} disturbed the victim’s vGPU`);
        if (a.vgpu.failsafe) t.fail(`${what} put the attacker in failsafe: nothing more is tried`);
      };
      /** Once for many attacks: what costs more. */
      const nothingSeen = (what: string): void => {
        const registers = Uint32Array.from({ length: 0x20_0000 / 4 }, (_, i) => a.vgpu.registers.get(i * 4));
        t.notOk(holds(a.ram(), SECRET), `${what}: no secret in the attacker’s RAM`);
        t.notOk(registers.includes(SECRET), `${what}: nor in its registers`);
        t.equal(Buffer.compare(entriesOf(gvt, v.vgpu), entries), 0, `${what}: the victim’s GGTT is as it was`);
        t.equal(gvt.defects, 0, `${what}: ${gvt.lastDefect}`);
        work();
        ram = v.ram();
      };

      const { aperture, hidden } = v.vgpu.resources;
      const own = a.vgpu.resources;
      const ggttTargets: readonly (readonly [string, number])[] = [
        ['the victim’s aperture', aperture.start + 3 * PAGE_SIZE],
        ['its framebuffer there', aperture.start + (FRAMEBUFFER - 0x10_0000)],
        ['the end of its aperture', aperture.start + aperture.size - PAGE_SIZE],
        ['its hidden memory', hidden.start],
        ['the end of the own aperture, and past it', own.aperture.start + own.aperture.size - 8],
        ['past all graphics memory', 0xffff_f000],
      ];
      const secretGfn = Gfn(Math.ceil(FREE / PAGE_SIZE) + 1);
      const dma = v.vgpu.handle.dmaMapGuestPage(secretGfn, PAGE_SIZE);
      const frames: readonly (readonly [string, number])[] = [
        ['the victim’s host frame', v.vgpu.handle.gfnToMfn(secretGfn)],
        ['the victim’s DMA address', Math.floor(dma / PAGE_SIZE)],
        ['the frame past the own RAM', RAM_BYTES / PAGE_SIZE],
        ['the own BAR0', BAR0 / PAGE_SIZE],
        ['the victim’s place in BAR2', (BAR2 + aperture.start) / PAGE_SIZE],
        ['the local APIC', 0xfee00],
        ['the last frame', 0x3_ffff_ffff],
      ];

      t.test('commands with forged addresses', async () => {
        for (const { name, engine, dwords } of ATTACKS) {
          const { own } = attacker;
          for (const [where, at] of ggttTargets) {
            const address: Address = { low: at, high: 0 };
            attacker.execute(engine, false, dwords(address, true, own.ggtt), 1);
            unharmed(`${name} in a GGTT batch at ${where}`);
            attacker.execute(engine, true, dwords(address, true, own.process), 1);
            unharmed(`${name} in a per-process batch at ${where} of the GGTT`);
          }
          for (const [i, [where, frame]] of frames.entries()) {
            attacker.execute(engine, true, dwords(attacker.forge(i, frame), false, own.process), 1);
            unharmed(`${name} in per-process memory that leads to ${where}`);
          }
        }
        nothingSeen('commands');
      });

      t.test('commands that only look', async (t) => {
        for (const { name, dwords } of LOOKS) {
          const outcomes = (perProcess: boolean, address: Address, ggtt: boolean) =>
            [SECRET, SECRET - 1, SECRET + 1].map((data) => attacker.execute(1, perProcess, dwords(address, ggtt, data), 9));
          const same = (what: string, [equal, ...others]: readonly object[]): void => {
            for (const other of others) t.strictSame(equal, other, `${name}: ${what} tells nothing`);
            unharmed(name);
          };
          for (const [where, at] of ggttTargets) {
            same(where, outcomes(false, { low: at, high: 0 }, true));
            same(where, outcomes(true, { low: at, high: 0 }, true));
          }
          for (const [i, [where, frame]] of frames.entries()) same(where, outcomes(true, attacker.forge(i, frame), false));
        }
        nothingSeen('looks');
      });

      t.test('rings, contexts, roots and the status page', async () => {
        for (const [where, at] of ggttTargets)
          for (const engine of [0, 1]) {
            attacker.context({ 0x24: (at & -PAGE_SIZE) >>> 0, 0x1c: 64 });
            attacker.submit(engine);
            unharmed(`a ring at ${where}`);
            attacker.register(0x941c, 0x1e);
            attacker.restart();
            attacker.context({ 0x64: at | 1, 0x6c: (at & ~63) | 2, 0x1c: 8 });
            attacker.submit(engine);
            unharmed(`a context’s batches at ${where}`);
            attacker.register(0x941c, 0x1e);
            attacker.restart();
            attacker.submit(engine, (at & -PAGE_SIZE) >>> 0);
            unharmed(`a context at ${where}`);
            attacker.register(0x941c, 0x1e);
            attacker.restart();
            for (const base of [0x2000, 0x2_2000]) attacker.register(base + 0x80, at);
            attacker.context({ 0x1c: 8 });
            attacker.submit(engine);
            attacker.execute(1, false, [0x1080_0002, 0x40, POISON, POISON, 0x1320_4002, 0x48, 0, POISON], 1);
            unharmed(`a status page at ${where}`);
            attacker.register(0x941c, 0x1e);
            attacker.restart();
          }
        for (const [where, frame] of frames) {
          const [low, high] = [(frame % 2 ** 20) * PAGE_SIZE, Math.floor(frame / 2 ** 20)];
          for (const mode of ['image', 'command', 'pvinfo'] as const) {
            if (mode === 'image') attacker.context({ 0xc4: high, 0xcc: low, 0x1c: 8 });
            else if (mode === 'pvinfo') {
              for (let i = 0; i < 4; i++) {
                attacker.register(0x7_8838 + i * 8, low);
                attacker.register(0x7_883c + i * 8, high);
              }
              for (const code of [2, 4]) attacker.register(0x7_8818, code);
            }
            const roots = mode === 'command' ? [0x1100_0003, 0x2_2270, low, 0x2_2274, high] : [];
            attacker.execute(1, false, [...roots, 0x1000_0002, PAGE_SIZE, 0, POISON, 0x1480_0002, 0x2_2600, PAGE_SIZE, 0], 1);
            unharmed(`a root by ${mode} at ${where}`);
          }
          // A directory, a table and a large page behind it.
          for (const level of [0, 1, 2]) {
            attacker.entry(5 + level, 1, low | (level === 2 ? 0x80 : 0), high);
            const address = { low: level === 2 ? 2 ** 21 : level === 1 ? 2 ** 30 : 0, high: level === 0 ? 2 ** 7 : 0 };
            attacker.execute(
              1,
              true,
              [0x1000_0002, address.low, address.high, POISON, 0x1480_0002, 0x2_2600, address.low, address.high],
              1,
            );
            unharmed(`an entry of level ${level} at ${where}`);
          }
        }
        nothingSeen('rings, contexts and roots');
      });

      t.test('the GGTT and the aperture of the other', async (t) => {
        for (const start of [aperture.start, hidden.start])
          for (const page of [0, 1, 3, 100])
            for (const halves of [false, true]) {
              const index = start / PAGE_SIZE + page;
              t.equal(attacker.gttRead(index), 0, 'entries of the other read 0');
              attacker.gttWrite(index, 0x10_0001, 0, halves);
              unharmed('a GGTT entry of the victim');
            }
        for (const offset of [aperture.start, aperture.start + (FRAMEBUFFER - 0x10_0000), aperture.start + aperture.size - 4]) {
          t.equal(attacker.aperturePeek(offset), 0xffff_ffff, 'the aperture of the other is nobody’s');
          attacker.aperturePoke(offset, POISON);
          unharmed('a store to the victim’s aperture');
        }
        // The victim's frames in the attacker's own entries.
        for (const [where, frame] of frames) {
          attacker.gttWrite(attacker.aperture / PAGE_SIZE + 64, ((frame % 2 ** 20) * PAGE_SIZE) | 1, Math.floor(frame / 2 ** 20), false);
          attacker.aperturePoke(attacker.aperture + 64 * PAGE_SIZE, POISON);
          attacker.aperturePeek(attacker.aperture + 64 * PAGE_SIZE);
          const { execute } = attacker;
          execute.call(attacker, 1, false, [0x1040_0002, attacker.aperture + 64 * PAGE_SIZE, 0, POISON], 1);
          unharmed(`an own GGTT entry that leads to ${where}`);
        }
        nothingSeen('GGTT and aperture');
      });

      t.test('the same attacks on itself succeed: they are what they claim to be', async (t) => {
        for (const [page, perProcess] of [
          [attacker.own.ggtt, false],
          [attacker.own.process, true],
        ] as const) {
          const outcome = attacker.execute(1, perProcess, [0x1000_0002 + (perProcess ? 0 : 1 << 22), page.low, page.high, POISON], 7);
          t.strictSame(outcome, { hung: false, marked: true });
          t.equal(holds(a.ram(), POISON), true);
        }
        t.ok(attacks > 500, `${attacks} attacks`);
      });
    });
}
