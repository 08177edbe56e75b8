/** GMBUS: the EDID as i915 reads it, who answers and who does not, and the interrupt. */
import t from 'tap';
import { buildEdid } from '../../src/core/gvt/display/edid.js';
import { monitorEdid } from '../../src/core/gvt/display/monitors.js';
import { TIMING_1024X768 } from '../../src/core/gvt/display/timings.js';
import { Random } from '../core/random.js';
import { type Fixture, fixture } from './memory-backend.js';

const [SELECT, COMMAND, STATUS, DATA, MASK, INDEX] = [0xc_5100, 0xc_5104, 0xc_5108, 0xc_510c, 0xc_5110, 0xc_5120];
const [CLEAR, READY, STOP, INDEXED, WAIT, READ] = [0x8000_0000, 0x4000_0000, 1 << 27, 1 << 26, 1 << 25, 1];
const [IN_USE, WAIT_PHASE, HW_READY, NAK, ACTIVE] = [1 << 15, 1 << 14, 1 << 11, 1 << 10, 1 << 9];
const PORT_B = 5;
const EDID = monitorEdid({ width: 1024, height: 768 });

function bus(f: Fixture) {
  const command = (cycle: number, address: number, count: number, direction: number, index = 0): void => {
    f.write(COMMAND, (READY | cycle | (count << 16) | (index << 8) | (address << 1) | direction) >>> 0);
  };
  /** Without the arbitration bit and the count. */
  const status = (): number => f.read(STATUS) & ~IN_USE & ~0x1ff;
  const take = (length: number): number[] => {
    const bytes: number[] = [];
    for (let i = 0; i < length; i += 4) {
      const word = f.read(DATA);
      for (let byte = 0; byte < Math.min(4, length - i); byte++) bytes.push((word >>> (8 * byte)) & 0xff);
    }
    return bytes;
  };
  const stop = (): void => command(STOP, 0, 0, 0);
  /** As drivers do: the offset is written, then the bytes are read. */
  const read = (offset: number, length: number): number[] => {
    f.write(DATA, offset);
    command(WAIT, 0x50, 1, 0);
    command(WAIT, 0x50, length, READ);
    const bytes = take(length);
    stop();
    return bytes;
  };
  f.write(SELECT, PORT_B);
  return { command, status, take, stop, read };
}

t.test('the whole block, by an offset that is written and by an index cycle', async (t) => {
  const f = fixture();
  const { command, status, take, stop, read } = bus(f);
  t.equal(status(), HW_READY, 'idle');
  t.same(read(0, 128), [...EDID]);
  t.equal(status(), HW_READY, 'idle again');
  command(WAIT | INDEXED, 0x50, 128, READ, 0);
  t.equal(f.read(STATUS), IN_USE | WAIT_PHASE | HW_READY | ACTIVE | 128, 'ready and waiting at once, 128 bytes to come');
  t.same(take(60), [...EDID.subarray(0, 60)]);
  t.equal(f.read(STATUS) & 0x1ff, 68);
  t.same(take(68), [...EDID.subarray(60)]);
  t.equal(status(), HW_READY | WAIT_PHASE | ACTIVE, 'the bus is kept until the stop');
  stop();
  t.equal(status(), HW_READY);
  command(WAIT | INDEXED | STOP, 0x50, 7, READ, 0x36);
  t.same(take(7), [...EDID.subarray(0x36, 0x3d)], 'from the middle, an odd number of bytes');
  t.equal(f.read(DATA), 0, 'nothing past the end of the message');
  stop();
  command(WAIT, 0x50, 3, READ);
  t.same(take(3), [...EDID.subarray(0x3d, 0x40)], 'a read without an offset goes on');
  f.write(INDEX, 0x8000_1000);
  command(WAIT | INDEXED, 0x50, 4, READ, 0x55);
  t.same(take(4), [...EDID.subarray(0x10, 0x14)], 'of an index of two bytes the first is the offset');
});

t.test('up to 511 bytes in a message', async (t) => {
  const f = fixture();
  const { read } = bus(f);
  const bytes = read(0, 511);
  t.same(bytes.slice(0, 128), [...EDID]);
  t.same(bytes.slice(128, 256), [...EDID], 'the memory repeats');
  t.same(bytes.slice(256, 384), [...EDID]);
});

t.test('who does not answer', async (t) => {
  const f = fixture();
  const { command, status, read } = bus(f);
  for (const address of [0, 0x30, 0x37, 0x4f, 0x51, 0x7f]) {
    command(WAIT, address, 4, READ);
    t.equal(status(), HW_READY | NAK, `address 0x${address.toString(16)}`);
    t.equal(f.read(DATA), 0);
    f.write(COMMAND, CLEAR);
    t.equal(status(), HW_READY, 'cleared');
    f.write(COMMAND, 0);
  }
  for (const pin of [0, 1, 2, 3, 4, 6, 7]) {
    f.write(SELECT, pin);
    command(WAIT | INDEXED, 0x50, 4, READ);
    t.equal(status(), HW_READY | NAK, `pin pair ${pin}`);
    f.write(COMMAND, CLEAR);
  }
  f.write(SELECT, PORT_B);
  f.gvt.emulateHotplug(f.vgpu, false);
  command(WAIT, 0x50, 4, READ);
  t.equal(status(), HW_READY | NAK, 'no monitor');
  f.write(COMMAND, CLEAR);
  f.time.ns += 1e9;
  f.gvt.emulateHotplug(f.vgpu, true);
  t.same(read(0, 128), [...EDID], 'it is back');
  const fused = fixture({ display: false });
  const other = bus(fused);
  other.command(WAIT, 0x50, 4, READ);
  t.equal(other.status(), HW_READY | NAK, 'fused off');
});

t.test('a monitor that goes in the middle of a message', async (t) => {
  const f = fixture();
  const { command, take } = bus(f);
  command(WAIT | INDEXED, 0x50, 8, READ);
  t.same(take(4), [...EDID.subarray(0, 4)]);
  f.gvt.emulateHotplug(f.vgpu, false);
  t.same(take(4), [0xff, 0xff, 0xff, 0xff]);
});

t.test('segments', async (t) => {
  const f = fixture();
  const { command, status, stop, take, read } = bus(f);
  const blocks = [0, 1, 2, 3].map((i) => {
    const block = buildEdid({
      manufacturer: 'ABC',
      product: i,
      year: 2020,
      name: `${i}`,
      dpi: 96,
      detailed: [TIMING_1024X768],
      standard: [],
      established: [],
      range: { vertical: [1, 2], horizontal: [1, 2], clockMHz: 10 },
    });
    if (i === 0) {
      block[126] = 3;
      block[127] = ((block[127] as number) - 3) & 0xff;
    }
    return block;
  });
  f.gvt.setEdid(f.vgpu, Uint8Array.from(blocks.flatMap((block) => [...block])));
  f.time.ns += 1e9;
  f.vgpu.tick();
  const segment = (number: number): void => {
    f.write(DATA, number);
    command(WAIT, 0x30, 1, 0);
  };
  segment(1);
  t.equal(status() & NAK, 0, 'the segment pointer answers');
  command(WAIT | INDEXED, 0x50, 256, READ, 0);
  t.same(take(256), [...(blocks[2] as Uint8Array), ...(blocks[3] as Uint8Array)]);
  stop();
  t.same(read(0, 256), [...(blocks[0] as Uint8Array), ...(blocks[1] as Uint8Array)], 'a stop takes it back to 0');
  segment(2);
  command(WAIT | INDEXED, 0x50, 128, READ, 0);
  t.equal(status(), HW_READY | NAK, 'there is no third');
});

t.test('arbitration: the first read of the status takes the bus', async (t) => {
  const f = fixture();
  t.equal(f.read(STATUS) & IN_USE, 0);
  t.equal(f.read(STATUS) & IN_USE, IN_USE);
  f.write(STATUS, IN_USE);
  t.equal(f.read(STATUS) & IN_USE, 0);
});

t.test('the interrupt comes for the states that GMBUS4 asks for', async (t) => {
  const [IMR, IIR, EVENT] = [0xc_4004, 0xc_4008, 1 << 17];
  for (const [mask, begun, failed, stopped] of [
    [1 << 0, true, true, true],
    [1 << 1, true, false, false],
    [1 << 2, false, true, true],
    [1 << 3, false, true, false],
    [0, false, false, false],
  ] as const) {
    const f = fixture();
    const { command, stop } = bus(f);
    f.write(IMR, 0);
    f.write(MASK, mask);
    const came = (): boolean => {
      const events = f.read(IIR);
      f.write(IIR, events);
      return (events & EVENT) !== 0;
    };
    command(WAIT | INDEXED, 0x50, 4, READ);
    t.equal(came(), begun, `mask ${mask}: begun`);
    stop();
    t.equal(came(), stopped, `mask ${mask}: stopped`);
    command(WAIT, 0x51, 4, READ);
    t.equal(came(), failed, `mask ${mask}: not acknowledged`);
  }
});

t.test('whatever a guest writes, it answers', async (t) => {
  const f = fixture();
  const random = new Random(0x6b05);
  for (let i = 0; i < 20_000; i++) {
    const register = random.pick([SELECT, COMMAND, STATUS, DATA, MASK, INDEX]);
    if (random.below(2) === 0) f.read(register);
    else f.write(register, random.below(3) === 0 ? random.word() : random.pick([READY, CLEAR, 0, PORT_B]) | random.word());
  }
  f.write(COMMAND, CLEAR);
  f.write(COMMAND, 0);
  f.write(INDEX, 0);
  t.same(bus(f).read(0, 128), [...EDID]);
  t.equal(f.gvt.defects, 0);
});
