/** The interrupt hierarchy, from event to MSI. */
import t from 'tap';
import { INTERRUPT_EVENTS, INTERRUPT_GROUPS } from '../../src/core/gvt/interrupts.js';
import type { GvtEvent } from '../../src/core/gvt/roles.js';
import { type Fixture, fixture } from './memory-backend.js';

const MASTER = 0x4_4200;
const MASTER_ENABLE = 0x8000_0000;
const GT0 = 0x4_4300;
const [IMR, IIR, IER] = [4, 8, 12];

/** MSI on, master on. */
function ready(): Fixture {
  const f = fixture();
  f.configWrite(0x94, 4, 0xfee0_0000);
  f.configWrite(0x98, 2, 0x41);
  f.configWrite(0x92, 2, 1);
  f.write(MASTER, MASTER_ENABLE);
  return f;
}

/** Group base, bit and master bit of each event, spelled out as the hardware documents them. */
const EXPECTED: Record<GvtEvent, [base: number, bit: number, master: number]> = {
  'rcs.user': [0x4_4300, 0, 0],
  'rcs.error': [0x4_4300, 3, 0],
  'rcs.pipe-control': [0x4_4300, 4, 0],
  'rcs.ctx-switch': [0x4_4300, 8, 0],
  'bcs.user': [0x4_4300, 16, 1],
  'bcs.error': [0x4_4300, 19, 1],
  'bcs.flush': [0x4_4300, 20, 1],
  'bcs.ctx-switch': [0x4_4300, 24, 1],
  'vcs.user': [0x4_4310, 0, 2],
  'vcs.error': [0x4_4310, 3, 2],
  'vcs.flush': [0x4_4310, 4, 2],
  'vcs.ctx-switch': [0x4_4310, 8, 2],
  'vecs.user': [0x4_4330, 0, 6],
  'vecs.error': [0x4_4330, 3, 6],
  'vecs.flush': [0x4_4330, 4, 6],
  'vecs.ctx-switch': [0x4_4330, 8, 6],
  'pipe-a.vblank': [0x4_4400, 0, 16],
  'pipe-a.flip': [0x4_4400, 4, 16],
  'pipe-a.sprite-flip': [0x4_4400, 5, 16],
  'pipe-b.vblank': [0x4_4410, 0, 17],
  'pipe-b.flip': [0x4_4410, 4, 17],
  'pipe-b.sprite-flip': [0x4_4410, 5, 17],
  'pipe-c.vblank': [0x4_4420, 0, 18],
  'pipe-c.flip': [0x4_4420, 4, 18],
  'pipe-c.sprite-flip': [0x4_4420, 5, 18],
  'pch.gmbus': [0xc_4000, 17, 23],
  'pch.aux-b': [0xc_4000, 25, 23],
  'pch.hotplug-b': [0xc_4000, 21, 23],
};

t.test('each event reaches its bit, the master and the guest', async (t) => {
  t.strictSame(Object.keys(INTERRUPT_EVENTS).sort(), Object.keys(EXPECTED).sort());
  for (const [event, [base, bit, master]] of Object.entries(EXPECTED)) {
    const { backend, vgpu, read, write } = ready();
    const mask = (1 << bit) >>> 0;
    write(base + IMR, ~mask >>> 0);
    write(base + IER, mask);
    vgpu.interrupts.raise(event as GvtEvent);
    t.equal(read(base + IIR), mask, event);
    t.equal(read(MASTER), (MASTER_ENABLE | (1 << master)) >>> 0, `${event} in the master`);
    t.strictSame(backend.msis, [[0xfee0_0000, 0x41]], `${event} injects once`);
    write(base + IIR, mask);
    t.equal(read(base + IIR), 0);
    t.equal(read(MASTER), MASTER_ENABLE, `${event} acknowledged`);
    t.equal(backend.msis.length, 1, 'acknowledging injects nothing');
    t.equal(vgpu.statistics.interrupts, 1);
  }
});

t.test('after reset everything is masked', async (t) => {
  const { read } = fixture({ display: false });
  for (const { base, name } of INTERRUPT_GROUPS)
    t.strictSame(
      [0, 4, 8, 12].map((offset) => read(base + offset)),
      [0, 0xffff_ffff, 0, 0],
      name,
    );
  t.equal(read(MASTER), 0);
});

t.test('a masked event is lost', async (t) => {
  const { backend, vgpu, read, write } = ready();
  write(GT0 + IER, 0xffff_ffff);
  vgpu.interrupts.raise('rcs.user');
  t.equal(read(GT0 + IIR), 0);
  write(GT0 + IMR, 0);
  t.equal(backend.msis.length, 0, 'unmasking does not bring it back');
});

t.test('pending but not enabled: the enable injects', async (t) => {
  const { backend, vgpu, read, write } = ready();
  write(GT0 + IMR, 0);
  vgpu.interrupts.raise('rcs.user');
  t.equal(read(GT0 + IIR), 1);
  t.equal(backend.msis.length, 0);
  t.equal(read(MASTER), MASTER_ENABLE);
  write(GT0 + IER, 1);
  t.equal(backend.msis.length, 1);
  t.equal(read(MASTER), (MASTER_ENABLE | 1) >>> 0);
  write(GT0 + IMR, 0xffff_ffff);
  t.equal(backend.msis.length, 2, 'no edge memory: each check with something pending injects');
  write(GT0 + IER, 0);
  t.equal(read(MASTER), MASTER_ENABLE);
  t.equal(backend.msis.length, 2);
});

t.test('the master gate', async (t) => {
  const { backend, vgpu, read, write } = ready();
  write(MASTER, 0);
  write(GT0 + IMR, 0);
  write(GT0 + IER, 0xffff_ffff);
  vgpu.interrupts.raise('bcs.user');
  t.equal(backend.msis.length, 0);
  t.equal(read(MASTER), 2, 'the source can be sampled while the gate is shut');
  write(MASTER, MASTER_ENABLE);
  t.equal(backend.msis.length, 1, 'opening it injects what is pending');
  write(MASTER, 0x7fff_ffff);
  t.equal(read(MASTER), 2, 'only bit 31 can be written');
});

t.test('IIR clears by 1 and only what is written; ISR is read-only', async (t) => {
  const { vgpu, read, write } = ready();
  write(GT0 + IMR, 0);
  vgpu.interrupts.raise('rcs.user');
  vgpu.interrupts.raise('rcs.ctx-switch');
  write(GT0 + IIR, 0xffff_fffe);
  t.equal(read(GT0 + IIR), 1);
  write(GT0 + IIR, 0);
  t.equal(read(GT0 + IIR), 1);
  write(GT0, 0xffff_ffff);
  t.equal(read(GT0), 0);
});

t.test('MSI rules of the wrapper', async (t) => {
  const { backend, vgpu, configWrite, write, mistakes } = ready();
  write(GT0 + IMR, 0);
  write(GT0 + IER, 1);
  configWrite(0x92, 2, 0);
  vgpu.interrupts.raise('rcs.user');
  t.equal(backend.msis.length, 0, 'disabled: dropped');
  t.equal(vgpu.statistics.guestErrors, 0, 'quietly');
  configWrite(0x92, 2, 0x21);
  vgpu.interrupts.raise('rcs.user');
  t.equal(backend.msis.length, 0, 'several messages: dropped');
  t.equal(vgpu.statistics.guestErrors, 1);
  configWrite(0x92, 2, 1);
  configWrite(0x94, 4, 0x1000);
  vgpu.interrupts.raise('rcs.user');
  t.match(mistakes.at(-1), /message address/);
  configWrite(0x94, 4, 0xfeef_f000);
  configWrite(0x98, 2, 0x0f);
  vgpu.interrupts.raise('rcs.user');
  t.match(mistakes.at(-1), /vector 15 is reserved/);
  configWrite(0x98, 2, 0x10);
  backend.broken.add('msi');
  vgpu.interrupts.raise('rcs.user');
  t.match(mistakes.at(-1), /refused by the test/);
  t.equal(vgpu.statistics.interrupts, 0);
  backend.broken.delete('msi');
  vgpu.interrupts.raise('rcs.user');
  t.strictSame(backend.msis, [[0xfeef_f000, 0x10]]);
  backend.end();
  vgpu.interrupts.raise('rcs.user');
  t.equal(vgpu.statistics.interrupts, 1, 'a VM that is gone gets nothing, and nothing throws');
});
