/** Pipes: frames, scan lines and flips by the clock, and how a frame waits for an update that is under way. */
import t from 'tap';
import { type Fixture, fixture } from './memory-backend.js';

const FRAME = 1e9 / 60;
const [ENABLE, ACTIVE] = [0x8000_0000, 0x4000_0000];
const PIPES = [0, 1, 2] as const;
const [VTOTAL, VBLANK, DDI_FUNC, LINE, CONFIG, COUNT, FLIPS] = [0x6_000c, 0x6_0010, 0x6_0400, 0x7_0000, 0x7_0008, 0x7_0040, 0x7_0044];
const [DSPCNTR, DSPSURF, DSPSURFLIVE, SPRSURF, SPRSURFLIVE] = [0x7_0180, 0x7_019c, 0x7_01ac, 0x7_029c, 0x7_02ac];

/** Registers of one pipe; its interrupts unmasked, and taken by reading them. */
function rig(pipe: number, options: Parameters<typeof fixture>[0] = {}) {
  const f: Fixture = fixture(options);
  const [block, irq] = [pipe * 0x1000, 0x4_4400 + pipe * 16];
  const get = (register: number): number => f.read(register + block);
  const set = (register: number, value: number): number => f.write(register + block, value);
  f.write(irq + 4, 0);
  const taken = (): number => {
    const events = f.read(irq + 8);
    f.write(irq + 8, events);
    return events;
  };
  /** A moment of the clock, in frames. */
  const at = (frames: number): void => {
    // A moment after, so that the frame has surely ended.
    f.time.ns = frames * FRAME + 10;
  };
  return { ...f, get, set, taken, at };
}

t.test('a frame ends 60 times a second, whether anybody looks or not', async (t) => {
  for (const pipe of PIPES) {
    const { get, set, taken, at, vgpu, gvt } = rig(pipe);
    at(60);
    vgpu.tick();
    t.equal(taken(), 0, 'none with the pipe off');
    t.equal(gvt.untilTickMs, Number.POSITIVE_INFINITY);
    set(CONFIG, ENABLE);
    t.equal(get(CONFIG), ENABLE + ACTIVE, 'active follows enable');
    t.equal(get(COUNT), 0);
    at(60.75);
    t.ok(Math.abs(gvt.untilTickMs - 1000 / 240) < 0.001, 'a quarter of a frame is left');
    vgpu.tick();
    t.equal(taken(), 0);
    at(61);
    t.equal(gvt.untilTickMs, 0);
    gvt.runSlice(1);
    t.equal(taken(), 1, 'vertical blank');
    gvt.runSlice(1);
    t.equal(taken(), 0, 'once a frame');
    t.equal(get(COUNT), 1);
    at(62);
    t.equal(get(COUNT), 2, 'who looks first ends it');
    t.equal(taken(), 1);
    vgpu.tick();
    t.equal(taken(), 0);
    at(121);
    vgpu.tick();
    t.equal(taken(), 1, 'frames that nobody waited for are one interrupt');
    t.equal(get(COUNT), 61, 'and are counted');
    set(CONFIG, 0);
    t.equal(get(CONFIG), 0);
    at(130);
    vgpu.tick();
    t.equal(taken(), 0);
    t.equal(get(COUNT), 61);
    t.equal(get(LINE), 0);
    set(CONFIG, ENABLE);
    t.equal(get(COUNT), 61, 'the frames between do not count');
  }
});

t.test('the scan line: a frame ends where the vertical blank begins', async (t) => {
  const { get, set, at } = rig(1);
  set(CONFIG, ENABLE);
  at(60);
  t.equal(get(LINE), 768, '1024x768 until a mode is set');
  at(60.5);
  t.equal(get(LINE), (768 + 403) % 806);
  set(VTOTAL, (99 << 16) | 79);
  set(VBLANK, (99 << 16) | 79);
  at(61);
  t.equal(get(LINE), 79, 'the counter is a line behind what is drawn');
  at(61.2);
  t.equal(get(LINE), 99);
  at(61.22);
  t.equal(get(LINE), 1);
  at(61.99);
  t.equal(get(LINE), 78);
  set(DDI_FUNC, ENABLE);
  at(62);
  t.equal(get(LINE), 78, 'on HDMI two');
});

t.test('flips are done at the end of the frame', async (t) => {
  for (const pipe of PIPES) {
    const { get, set, taken, at, vgpu } = rig(pipe);
    set(DSPSURF, 0x1000);
    t.strictSame([get(DSPSURFLIVE), get(FLIPS), taken()], [0x1000, 1, 1 << 4], 'at once with the pipe off');
    set(CONFIG, ENABLE);
    set(DSPSURF, 0x2000);
    set(SPRSURF, 0x3000);
    t.strictSame([get(DSPSURFLIVE), get(SPRSURFLIVE), taken()], [0x1000, 0, 0]);
    at(61);
    vgpu.tick();
    t.strictSame([get(DSPSURFLIVE), get(SPRSURFLIVE), get(FLIPS)], [0x2000, 0x3000, 2]);
    t.equal(taken(), (1 << 0) | (1 << 4) | (1 << 5), 'blank, primary and sprite');
    set(DSPSURFLIVE, 0);
    t.equal(get(DSPSURFLIVE), 0x2000, 'read-only');
    set(DSPCNTR, 1 << 9);
    set(DSPSURF, 0x4000);
    t.strictSame([get(DSPSURFLIVE), taken()], [0x4000, 1 << 4], 'an asynchronous one at once');
    set(DSPCNTR, 0);
    set(DSPSURF, 0x5000);
    set(CONFIG, 0);
    t.strictSame([get(DSPSURFLIVE), taken()], [0x5000, 1 << 4], 'and when the pipe goes off');
  }
});

t.test('an update that began in a frame ends in it', async (t) => {
  const { get, set, taken, at, time } = rig(0);
  set(CONFIG, ENABLE);
  at(61);
  t.equal(get(COUNT), 1);
  taken();
  // As i915 does it: counter, registers, counter.
  at(61.99);
  t.equal(get(COUNT), 1);
  time.ns += 3e6;
  set(DSPSURF, 0x2000);
  time.ns += 40e6;
  const line = get(LINE);
  t.ok(line > 600 && line < 760, `the beam stands at ${line}: before the blank, and not just before it`);
  t.equal(taken(), 0);
  t.equal(get(DSPSURFLIVE), 0);
  t.equal(get(COUNT), 1, 'the second read is of the same frame');
  t.equal(get(COUNT), 4, 'the frame then ends, and those that were missed');
  t.equal(taken(), (1 << 0) | (1 << 4));
  t.equal(get(DSPSURFLIVE), 0x2000);

  at(70.99);
  const count = get(COUNT);
  time.ns += 5e6;
  t.equal(get(COUNT), count + 1, 'without a register write it waits 4 ms');
  at(80.99);
  get(COUNT);
  set(DSPSURF, 0x3000);
  time.ns += 49e6;
  t.equal(taken(), 1, 'of before');
  get(LINE);
  t.equal(taken(), 0);
  time.ns += 2e6;
  get(LINE);
  t.equal(taken(), (1 << 0) | (1 << 4), 'with one at most 50 ms');
});

t.test('who reads the counter all the time sees it move', async (t) => {
  const { get, set, at, time } = rig(0);
  set(CONFIG, ENABLE);
  at(60);
  const first = get(COUNT);
  for (let i = 0; i < 1000; i++) {
    time.ns += 1e6;
    get(COUNT);
  }
  t.ok(get(COUNT) - first >= 59);
});

t.test('a device reset', async (t) => {
  const { set, at, gvt, vgpu } = rig(0);
  set(CONFIG, ENABLE);
  set(DSPSURF, 0x2000);
  gvt.reset(vgpu);
  at(70);
  vgpu.tick();
  vgpu.display.pipeSwitched(0, false);
  t.strictSame(
    [CONFIG, DSPSURF, DSPSURFLIVE, 0x4_4408].map((register) => vgpu.registers.get(register)),
    [0, 0, 0, 0],
    'the pipe is off, and no flip is left',
  );
});
