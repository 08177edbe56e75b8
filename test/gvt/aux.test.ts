/** A DisplayPort monitor on the AUX channel of port B: messages, DPCD, link training, EDID over I2C. Numbers are those of DisplayPort 1.2. */
import t from 'tap';
import { monitorEdid } from '../../src/core/gvt/display/monitors.js';
import { buildOpRegion } from '../../src/core/gvt/display/opregion.js';
import { Random } from '../core/random.js';
import { BAR0, type Fixture, fixture } from './memory-backend.js';

const [CONTROL, DATA, DDI_BUFFER, TRANSPORT, TRANSPORT_STATUS] = [0xe_4110, 0xe_4114, 0x6_4100, 0x6_4140, 0x6_4144];
const [SEND, DONE, INTERRUPT, TIMEOUT, RECEIVE_ERROR] = [0x8000_0000, 0x4000_0000, 0x2000_0000, 0x1000_0000, 0x0200_0000];
/** As i915 sets a message up: time limit, precharge, clock divider. */
const SETUP = 0x0803_00e1;
const ENABLE = 0x8000_0000;
const EDID = monitorEdid({ width: 1024, height: 768 }, 'dp');
const [NATIVE_WRITE, NATIVE_READ, I2C_WRITE, I2C_READ, MOT] = [8, 9, 0, 1, 4];

function channel(f: Fixture, control = CONTROL) {
  /** Sends a message as it stands. @returns the control register afterwards */
  const send = (bytes: readonly number[], flags = 0): number => {
    for (let i = 0; i < bytes.length; i += 4) {
      const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(i, i + 4);
      f.write(control + 4 + i, ((a << 24) | (b << 16) | (c << 8) | d) >>> 0);
    }
    f.write(control, (SETUP | SEND | flags | (bytes.length << 20)) >>> 0);
    return f.read(control);
  };
  /** @returns the reply's bytes; undefined: none came */
  const exchange = (bytes: readonly number[]): number[] | undefined => {
    const status = send(bytes);
    if ((status & TIMEOUT) !== 0) return undefined;
    const size = (status >>> 20) & 0x1f;
    return Array.from({ length: size }, (_, i) => (f.read(control + 4 + (i & ~3)) >>> (24 - 8 * (i & 3))) & 0xff);
  };
  const header = (code: number, address: number, length: number): number[] => [
    (code << 4) | (address >>> 16),
    (address >>> 8) & 0xff,
    address & 0xff,
    ...(length === 0 ? [] : [length - 1]),
  ];
  const read = (address: number, length: number): number[] | undefined => exchange(header(NATIVE_READ, address, length));
  const write = (address: number, ...bytes: number[]): number[] | undefined =>
    exchange([...header(NATIVE_WRITE, address, bytes.length), ...bytes]);
  /** As drm_dp_helper does it: start, offset, start, pieces of 16, stop. */
  const edid = (offset: number, length: number): number[] | undefined => {
    exchange(header(I2C_WRITE | MOT, 0x50, 0));
    const answered = exchange([...header(I2C_WRITE | MOT, 0x50, 1), offset]);
    if (answered?.[0] !== 0) return undefined;
    exchange(header(I2C_READ | MOT, 0x50, 0));
    const bytes: number[] = [];
    while (bytes.length < length) {
      const [code, ...piece] = exchange(header(I2C_READ | MOT, 0x50, Math.min(16, length - bytes.length))) as number[];
      if (code !== 0) return undefined;
      bytes.push(...piece);
    }
    exchange(header(I2C_READ, 0x50, 0));
    return bytes;
  };
  return { send, exchange, header, read, write, edid };
}

const dp = (): Fixture => fixture({ connector: 'dp' });

t.test('only a DisplayPort monitor answers, and only at its port', async (t) => {
  const f = dp();
  t.equal(f.read(0xc_4000) & (1 << 21), 1 << 21, 'its hotplug line');
  for (const control of [0x6_4010, 0xe_4210, 0xe_4310])
    t.equal(channel(f, control).send([0x90, 0, 0, 0]) & (SEND | DONE | TIMEOUT), DONE + TIMEOUT, `0x${control.toString(16)}`);
  t.same(channel(f).read(0, 4), [0, 0x12, 0x14, 0xc4, 0x01]);
  t.equal(channel(fixture()).read(0, 4), undefined, 'HDMI');
  t.equal(channel(fixture({ display: false, connector: 'dp' })).read(0, 4), undefined, 'fused off');
  f.gvt.emulateHotplug(f.vgpu, false);
  t.equal(channel(f).read(0, 4), undefined, 'unplugged');
  f.write(0xc_5100, 5);
  f.write(0xc_5104, 0x4000_0000 | (1 << 25) | (4 << 16) | 0xa1);
  t.equal(f.read(0xc_5108) & (1 << 10), 1 << 10, 'and over GMBUS it does not');
});

t.test('status: done, timeout and the interrupt', async (t) => {
  const f = dp();
  const { send } = channel(f);
  f.write(0xc_4004, 0);
  t.equal(send([0x90, 0, 0, 0]), (SETUP | DONE | (2 << 20)) >>> 0, 'done, two bytes');
  t.equal(f.read(0xc_4008), 0, 'no interrupt unless it is asked for');
  t.equal(send([0x90, 0, 0, 0], INTERRUPT), (SETUP | INTERRUPT | DONE | (2 << 20)) >>> 0);
  t.equal(f.read(0xc_4008), 1 << 25);
  f.write(CONTROL, (SETUP | TIMEOUT | RECEIVE_ERROR) >>> 0);
  t.equal(f.read(CONTROL), (SETUP | DONE) >>> 0, 'a status bit goes away by a 1 alone');
  f.write(CONTROL, (SETUP | DONE | TIMEOUT | RECEIVE_ERROR) >>> 0);
  t.equal(f.read(CONTROL), SETUP);
  t.equal(f.write(CONTROL, 0xff, 1), -22, 'in dwords only');
});

t.test('what is no message is not answered', async (t) => {
  const { exchange } = channel(dp());
  for (const [what, bytes] of [
    ['nothing', []],
    ['two bytes', [0x90, 0]],
    ['more data than 16', [0x80, 1, 0, 16, ...Array(16).fill(0)]],
    ['less data than it says', [0x80, 1, 0, 1, 0]],
    ['more', [0x80, 1, 0, 0, 0, 0]],
    ['data in a read', [0x90, 0, 0, 0, 0]],
    ['reserved native codes', [0xa0, 0, 0, 0]],
    ['the same', [0xf0, 0, 0, 0]],
    ['reserved I2C codes', [0x30, 0, 0x50, 0, 7]],
  ] as const)
    t.equal(exchange(bytes), undefined, what);
  t.same(exchange([0x90, 0, 0]), [0x10], 'a native read without a length: not acknowledged');
  t.same(exchange([0x80, 1, 0]), [0x10], 'the same for a write');
});

t.test('DPCD', async (t) => {
  const f = dp();
  const { read, write } = channel(f);
  t.same(read(0, 16), [0, 0x12, 0x14, 0xc4, 0x01, 0, 0, 0x01, ...Array(9).fill(0)]);
  t.same(read(0x200, 6), [0, 1, 0, 0, 0, 0, 0], 'one sink, no link');
  t.same(read(0x600, 1), [0, 1]);
  t.same(write(0, 0xff, 0xff), [0]);
  t.same(read(0, 2), [0, 0x12, 0x14], 'capabilities stay');
  t.same(write(0x600, 2), [0]);
  t.same(write(0x300, 1, 2, 3), [0]);
  t.same(
    [read(0x600, 1), read(0x300, 4)],
    [
      [0, 2],
      [0, 1, 2, 3, 0],
    ],
  );
  t.same(read(0xf_fff8, 16), [0, ...Array(16).fill(0)], 'the last addresses, and past them');
  t.same(write(0xf_ffff, 1, 2), [0]);
  t.same(read(0x7ff, 2), [0, 0, 0]);
  f.gvt.emulateHotplug(f.vgpu, false);
  f.time.ns += 1e9;
  f.gvt.emulateHotplug(f.vgpu, true);
  t.same(
    [read(0x600, 1), read(0x300, 4)],
    [
      [0, 1],
      [0, 0, 0, 0, 0],
    ],
  );
});

/** What a source sends: lanes, and DP_TP_CTL's code; as i915 switches them on. */
function source(f: Fixture, lanes: number, code: number): void {
  f.write(TRANSPORT, (ENABLE | (code << 8)) >>> 0);
  f.write(DDI_BUFFER, (ENABLE | ((lanes - 1) << 1)) >>> 0);
}
const [PATTERN_1, PATTERN_2, PATTERN_3, IDLE, NORMAL] = [0, 1, 4, 2, 3];

t.test('link training', async (t) => {
  for (const [lanes, rate, status] of [
    [1, 0x06, [0x07, 0x00]],
    [2, 0x0a, [0x77, 0x00]],
    [4, 0x14, [0x77, 0x77]],
  ] as const)
    for (const [pattern, code] of [
      [2, PATTERN_2],
      [3, PATTERN_3],
    ] as const) {
      const f = dp();
      const { read, write } = channel(f);
      write(0x100, rate, 0x80 | lanes);
      source(f, lanes, PATTERN_1);
      write(0x102, 0x21, ...Array(lanes).fill(0));
      t.same(read(0x202, 6), [0, ...status.map((byte) => byte & 0x11), 0, 0, 0, 0], `${lanes} lanes: clock, no other voltage is asked for`);
      source(f, lanes, code);
      write(0x102, 0x20 | pattern, ...Array(lanes).fill(0));
      t.same(read(0x202, 4), [0, ...status, 1, 1], `equalised by pattern ${pattern}, aligned, in sync`);
      source(f, lanes, IDLE);
      t.equal(f.read(TRANSPORT_STATUS), 1 << 25, 'the idle pattern was sent');
      source(f, lanes, NORMAL);
      write(0x102, 0);
      t.equal(f.read(TRANSPORT_STATUS), 0);
      t.same(read(0x202, 4), [0, ...status, 1, 1], 'and so it stays');
      f.write(DDI_BUFFER, 0);
      t.same(read(0x202, 4), [0, 0, 0, 0, 0], 'until the port is off');
    }
});

t.test('what does not train', async (t) => {
  const trained = (change: (f: Fixture, write: (address: number, ...bytes: number[]) => void) => void, lanes = 2): number[] => {
    const f = dp();
    const { read, write } = channel(f);
    write(0x100, 0x0a, lanes);
    source(f, 2, PATTERN_1);
    change(f, write);
    write(0x102, 0x21);
    source(f, 2, PATTERN_2);
    change(f, write);
    write(0x102, 0x22);
    return (read(0x202, 4) as number[]).slice(1);
  };
  const nothing = [0, 0, 0, 0];
  t.same(
    trained(() => {}),
    [0x77, 0, 1, 1],
  );
  t.same(
    trained((f) => f.write(DDI_BUFFER, 0)),
    nothing,
    'the port is off',
  );
  t.same(
    trained((f) => f.write(TRANSPORT, 0)),
    nothing,
    'no link',
  );
  t.same(
    trained((f) => f.write(DDI_BUFFER, ENABLE)),
    nothing,
    'one lane is driven, two are wanted',
  );
  t.same(
    trained((f) => source(f, 2, NORMAL)),
    nothing,
    'no pattern is sent',
  );
  t.same(
    trained((_f, write) => write(0x100, 0x0b)),
    nothing,
    'no such rate',
  );
  for (const lanes of [0, 3, 5, 0x1f])
    t.same(
      trained(() => {}, lanes),
      nothing,
      `${lanes} lanes`,
    );
  const f = dp();
  const { read, write } = channel(f);
  write(0x100, 0x0a, 2);
  source(f, 2, PATTERN_2);
  write(0x102, 0x22);
  t.same(read(0x202, 4), [0, ...nothing], 'equalising comes after the clock');
});

t.test('EDID over AUX', async (t) => {
  const f = dp();
  const { edid, exchange, header } = channel(f);
  t.equal((EDID[20] as number) & 0xf, 5, 'it says DisplayPort');
  t.same(edid(0, 128), [...EDID]);
  t.same(edid(0x36, 20), [...EDID.subarray(0x36, 0x4a)], 'from the middle');
  for (const address of [0x00, 0x37, 0x51, 0x7f])
    t.same(exchange(header(I2C_WRITE | MOT, address, 0)), [0x40], `nobody at 0x${address.toString(16)}`);
  t.same(exchange(header(I2C_READ | MOT, 0x51, 4)), [0x40], 'not acknowledged, no data');
  t.same(exchange(header(2, 0x51, 1)), [0x40], 'the status of that');
  exchange([...header(I2C_WRITE | MOT, 0x50, 3), 8, 1, 2]);
  t.same(exchange(header(2 | MOT, 0x50, 1)), [0], 'the status of a write');
  t.same(exchange(header(I2C_READ, 0x50, 2)), [0, EDID[8], EDID[9]], 'of what is written the offset counts');
  const large = monitorEdid({ width: 1920, height: 1200 }, 'dp');
  f.gvt.setEdid(f.vgpu, large);
  t.equal(edid(0, 128), undefined, 'the old monitor is away');
  f.time.ns += 1e9;
  f.vgpu.tick();
  t.same(edid(0, 128), [...large]);
});

t.test('segments over AUX', async (t) => {
  const f = dp();
  const { exchange, header, edid } = channel(f);
  const blocks = Array.from({ length: 4 }, (_, i) => {
    const block = EDID.slice();
    block[12] = i;
    block[126] = 3;
    block[127] = 0;
    block[127] = -block.reduce((sum, byte) => sum + byte, 0);
    return block;
  });
  f.gvt.setEdid(f.vgpu, Buffer.concat(blocks));
  f.time.ns += 1e9;
  f.vgpu.tick();
  exchange([...header(I2C_WRITE | MOT, 0x30, 1), 1]);
  exchange([...header(I2C_WRITE | MOT, 0x50, 1), 128 + 12]);
  t.same(exchange(header(I2C_READ, 0x50, 1)), [0, 3], 'the fourth block');
  t.same(edid(12, 1), [0], 'a stop takes the segment back');
  t.same(exchange([...header(I2C_WRITE | MOT, 0x30, 1), 2]), [0]);
  t.same(exchange(header(I2C_READ, 0x50, 1)), [0x40], 'there is no third segment');
});

t.test('a reset of the device: the link is down, the monitor stays as it is', async (t) => {
  const f = dp();
  const { read, write } = channel(f);
  write(0x100, 0x0a, 1);
  write(0x600, 2);
  source(f, 1, PATTERN_1);
  write(0x102, 0x21);
  t.same(read(0x202, 1), [0, 1]);
  f.gvt.reset(f.vgpu);
  f.configWrite(0x10, 4, BAR0);
  f.configWrite(0x04, 2, 2);
  const again = channel(f);
  t.same(
    [again.read(0x202, 1), again.read(0x600, 1)],
    [
      [0, 0],
      [0, 2],
    ],
  );
});

t.test('the OpRegion tells of a DisplayPort monitor at port B', async (t) => {
  const child = Buffer.from(buildOpRegion('dp')).subarray(0x400 + 48 + 22 + 3 + 5);
  t.equal(child.readUInt16LE(0), 0x40);
  t.equal(child.readUInt16LE(2), 0x68c6, 'DEVICE_TYPE_DP');
  t.strictSame([child[16], child[19], child[25]], [7, 0, 0x10], 'DP-B, no DDC pins, AUX channel B');
});

t.test('whatever a guest writes, it answers', async (t) => {
  const f = dp();
  const random = new Random(0xa0c5);
  for (let i = 0; i < 20_000; i++) {
    const register = random.pick([CONTROL, DATA, DATA + 4, DATA + 16, DDI_BUFFER, TRANSPORT, 0x6_4010, 0xc_5100, 0xc_5104, 0xc_510c]);
    if (random.below(4) === 0) f.read(register);
    else if (register === DATA && random.below(2) === 0)
      f.write(register, (random.pick([0x80, 0x90, 0x40, 0x50, 0x00, 0x10]) << 24) | (random.below(0x700) << 8) | random.below(16));
    else f.write(register, random.below(3) === 0 ? random.word() : (SEND | (random.below(21) << 20)) >>> 0);
  }
  const { read, edid, exchange, header } = channel(f);
  exchange(header(I2C_READ, 0x50, 0));
  t.same(read(0, 4), [0, 0x12, 0x14, 0xc4, 0x01]);
  t.same(edid(0, 128), [...EDID]);
  t.equal(f.gvt.defects, 0);
});
