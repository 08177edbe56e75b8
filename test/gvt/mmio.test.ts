/** The register engine, the Broadwell registers that are more than storage, PVINFO and failsafe. */
import t from 'tap';
import { MptError } from '../../src/core/errors.js';
import type { RegisterContext } from '../../src/core/gvt/register-context.js';
import { broadwellRegisters } from '../../src/core/gvt/register-table.js';
import { type RegisterDefinition, RegisterFile, RegisterTable } from '../../src/core/gvt/registers.js';
import { ENGINES } from '../../src/core/gvt/roles.js';
import { Status } from '../../src/core/gvt-ops.js';
import { BAR0, BAR2, type Fixture, fixture, random } from './memory-backend.js';

const MIB = 0x10_0000;
const PVINFO = 0x7_8000;

t.test('the register engine', async (t) => {
  const log: string[] = [];
  const definitions: readonly RegisterDefinition[] = [
    { name: 'PARTLY', offset: 0x100, reset: 0x1234_0000, writable: 0x0000_ff00, clearable: 0x0f00_0000 },
    { name: 'MODE', offset: 0x104, reset: 0x0f, masked: true, command: 'allow' },
    { name: 'FIXED', offset: 0x108, reset: 77, writable: 0, command: 'ignore' },
    { name: 'BYTES', offset: 0x110, count: 2, unaligned: true },
    { name: 'EACH', offset: 0x200, count: 2, stride: 0x10, perEngine: true, command: 'allow', read: (_c, offset, unit) => offset + unit },
    {
      name: 'TOLD',
      offset: 0x120,
      narrow: 2,
      after: (_c, offset, raw, unit, old) => {
        log.push([offset, raw, unit, old].map((n) => n.toString(16)).join(' '));
        return Status.OK;
      },
    },
    { name: 'REFUSES', offset: 0x124, write: (_c, _o, value) => (value === 1 ? Status.OK : Status.EINVAL) },
  ];
  const file = new RegisterFile(new RegisterTable(definitions), {} as RegisterContext);
  const value = new Uint32Array(2);
  const write = (offset: number, low: number, size = 4, high = 0): number => {
    value[0] = low;
    value[1] = high;
    return file.write(offset, value, size);
  };
  const read = (offset: number, size = 4): number => {
    const status = file.read(offset, value, size);
    return status === Status.OK ? (value[0] as number) : status;
  };

  t.equal(read(0x100), 0x1234_0000);
  write(0x100, 0xffff_ffff);
  t.equal(read(0x100), 0x1034_ff00, 'writable bits stored, clearable bits cleared, others kept');
  file.set(0x100, 0x1f34_ff00);
  write(0x101, 0xffff_ff12, 1);
  t.equal(read(0x100), 0x1f34_1200, 'bytes beyond the access do nothing');
  write(0x103, 0xff, 1);
  t.equal(read(0x100), 0x1034_1200, 'one byte');
  write(0x102, 0x1000, 2);
  t.equal(read(0x100), 0x1034_1200, 'a halfword that enables nothing');

  write(0x104, 0x0003_0001);
  t.equal(read(0x104), 0x0d, 'bits 1:0 enabled, 1 written');
  write(0x104, 0xffff);
  t.equal(read(0x104), 0x0d, 'nothing enabled');
  t.equal(write(0x104, 1, 2), Status.EINVAL, 'a halfword of a mode register means nothing');

  t.equal(write(0x108, 1), Status.OK);
  t.equal(read(0x108), 77, 'read-only');

  t.equal(read(0x1000, 2), 0);
  t.equal(read(0x1001, 2), Status.EINVAL, 'natural alignment');
  t.equal(write(0x1002, 0, 4), Status.EINVAL);
  t.equal(write(0x1004, 0, 8), Status.EINVAL);
  write(0x110, 0x4433_2211, 8, 0x8877_6655);
  t.equal(read(0x113), 0x7766_5544, 'declared unaligned');
  t.equal(write(0x112, 0xbbaa, 2), Status.OK);
  t.equal(write(0x111, 0xccdd, 2), Status.OK);
  t.equal(read(0x110), 0xbbcc_dd11);
  t.equal(read(0x115, 4), Status.EINVAL, 'past the declared registers');

  t.strictSame(
    [0x2200, 0x2_2210, 0x1_2200, 0x1_a210].map((offset) => read(offset)),
    [0x2200, 0x2_2211, 0x1_2202, 0x1_a213],
  );
  t.equal(read(0x2204), 0, 'between the strides is plain storage');

  write(0x120, 0xabcd_0000);
  write(0x122, 0x1111, 2);
  t.strictSame(log, ['120 abcd0000 0 0', '120 11110000 0 abcd0000']);
  t.equal(read(0x120, 1), Status.EINVAL);
  t.equal(read(0x122, 2), 0x1111);
  t.equal(write(0x124, 2), Status.EINVAL, 'a handler’s answer is the access’s');
  t.equal(write(0x120, 5, 8, 2), Status.EINVAL, 'also of the second half');
  t.equal(read(0x120), 5, 'the first half was stored');

  t.equal(file.writeFromCommand(0x104, 0xffff_0000, true), Status.OK);
  t.equal(read(0x104), 0);
  t.equal(file.writeFromCommand(0x108, 5, true), Status.OK, 'accepted');
  t.equal(read(0x108), 77, 'and ignored');
  for (const offset of [0x100, 0x1000]) t.equal(file.writeFromCommand(offset, 0, true), Status.EBADRQC, 'not for commands');
  t.equal(file.writeFromCommand(0x1f_fffc, 0, true), Status.EBADRQC);
  for (const offset of [0x1f_fffd, 0x20_0000, -4, 2 ** 32, Number.NaN]) t.equal(file.writeFromCommand(offset, 0, true), Status.EFAULT);
  t.equal(file.readFromCommand(0x2200), 0x2200);
  t.equal(file.readFromCommand(0x20_0000), 0);

  file.restore(0x104);
  t.equal(read(0x100), 0x1234_0000);
  t.equal(read(0x104), 0, 'the range ends before it');
  file.restore();
  t.equal(read(0x104), 0x0f);

  const bad = (definition: RegisterDefinition): void => {
    t.throws(() => new RegisterTable([{ name: 'FIRST', offset: 0x10 }, definition]), MptError, definition.name);
  };
  bad({ name: 'same place', offset: 0x10 });
  bad({ name: 'no dword', offset: 0x12 });
  bad({ name: 'outside', offset: 0x20_0000 });
  bad({ name: 'unaligned without bytes', offset: 0x20, masked: true, unaligned: true });
});

t.test('storage, sizes, the reserved range', async (t) => {
  const f = fixture();
  const { read, write, write64, read64 } = f;
  write64(0x5_0000, 0x89ab_cdef, 0x0123_4567);
  t.strictSame(read64(0x5_0000), [0x89ab_cdef, 0x0123_4567]);
  t.equal(read(0x5_0001, 1), 0xcd);
  t.equal(read(0x5_0006, 2), 0x0123);
  write(0x5_0004, 0xff, 1);
  t.equal(read(0x5_0004), 0x0123_45ff);
  write(0x1f_fffc, 5);
  t.equal(read(0x1f_fffc), 5, 'last register');
  for (const offset of [0x20_0000, 0x7f_fffc]) {
    t.equal(write(offset, 5), Status.OK);
    t.equal(read(offset), 0, 'between registers and GGTT there is nothing');
  }
  const value = new Uint32Array(2);
  const { gvt, vgpu } = f;
  const status = (gpa: number, size: number): number => gvt.emulateMmioRead(vgpu.id, gpa as never, value, size);
  t.equal(status(BAR0 - 1, 1), Status.EFAULT);
  t.equal(status(BAR0 + 16 * MIB, 1), Status.EFAULT);
  t.equal(status(BAR0 + 16 * MIB - 4, 8), Status.EFAULT, 'across the end');
  t.equal(status(BAR0 + 0x1f_fffc, 8), Status.EINVAL, 'across the register file’s end');
  for (const size of [0, 3, 5, 16]) t.equal(status(BAR0, size), Status.EINVAL);
  t.equal(gvt.emulateMmioRead(3 as never, BAR0 as never, value, 4), Status.ENODEV);
});

t.test('engine registers', async (t) => {
  for (const { base, name } of ENGINES) {
    const { read, write, time } = fixture();
    t.equal(read(base + 0x9c), 0x200, `${name} is idle`);
    write(base + 0x9c, 0x0300_0100);
    t.equal(read(base + 0x9c), 0x300, 'STOP_RING, and idle although written 0');
    write(base + 0xd0, 0x0001_0001);
    t.equal(read(base + 0xd0), 3, 'ready for reset');
    write(base + 0xd0, 0x0001_0000);
    t.equal(read(base + 0xd0), 0);
    t.equal(read(base + 0xa8), 0xffff_ffff, 'engine interrupts masked');
    const aperture = 128 * MIB;
    t.equal(write(base + 0x80, aperture), Status.OK);
    t.equal(write(base + 0x80, aperture - 4096), Status.EINVAL, 'status page of the host');
    t.equal(write(base + 0x80, aperture + 64 * MIB), Status.EINVAL);
    t.equal(read(base + 0x80), aperture);
    t.equal(write(base + 0x80, 896 * MIB), Status.OK, 'in hidden memory');
    t.equal(write(base + 0x80, 0), Status.OK, 'none');
    time.ns = 80 * (2 ** 32 * 3 + 5);
    t.equal(read(base + 0x358), 5, '12.5 MHz');
    t.equal(read(base + 0x35c), 3);
    time.ns += 160;
    t.equal(read(base + 0x358), 7);
    t.equal(write(base + 0x358, 0), Status.OK);
    t.equal(read(base + 0x358), 7, 'read-only');
  }
});

t.test('GT, power, clock and mailbox registers', async (t) => {
  const { read, write } = fixture();
  t.equal(read(0x9120), 0x0200_0000, 'one slice');
  for (const offset of [0x10_1008, 0x4260, 0x4270, 0x941c]) {
    write(offset, 1 << 5);
    t.equal(read(offset), 0, `0x${offset.toString(16)} clears itself`);
  }
  write(0x13_8124, 0x8000_0105);
  t.equal(read(0x13_8124), 0x100, 'mailbox ready, no error');
  t.equal(read(0x13_8128), 1, 'RC6 voltages');
  write(0xa188, 0x0001_0001);
  t.equal(read(0x13_0044), 1, 'awake');
  write(0xa188, 0x0001_0000);
  t.equal(read(0x13_0044), 0);
  write(0x4_5404, 0x8000_0000);
  t.equal(read(0x4_5404), 0xc000_0000, 'power well on');
  t.equal(read(0x4_5400), 0x4000_0000, 'seen by all requesters');
  write(0x4_5404, 0);
  t.equal(read(0x4_5400), 0);
  t.equal(read(0x13_0040), 0x4000_0000, 'LCPLL locked');
  write(0x13_0040, 0x8020_0000);
  t.equal(read(0x13_0040), 0x8028_0000, 'disabled: unlocked; clock source switched');
  write(0x7010, 0x0002_0002);
  t.equal(read(0x7010), 2, 'workaround reads back');
  t.equal(read(0xc000), 1, 'GuC in reset');
  t.equal(read(0xc000), 0, 'shown once');
  write(0x941c, 1 << 5);
  t.equal(read(0xc000), 1);
});

t.test('port and PCH registers', async (t) => {
  const { read, write } = fixture();
  t.equal(read(0xc_6204), 24);
  write(0x7_f008, 0x8000_0000);
  t.equal(read(0x7_f008), 0xc000_0000, 'the transcoder of port A is active at once');
  t.equal(read(0x6_4300), 0x80, 'DDI idle');
  write(0x6_4300, 0x8000_0000);
  t.equal(read(0x6_4300), 0x8000_0000);
  write(0xe_4110, 0x8000_0001);
  t.equal(read(0xe_4110), 0x5000_0001, 'AUX: done, timeout');
  write(0xe_4110, 0x4000_0001);
  t.equal(read(0xe_4110), 0x1000_0001, 'done cleared by 1, timeout kept');
  write(0xc_6008, 0xff01);
  t.equal(read(0xc_6008), 0xff00, 'sideband done');
  t.equal(read(0xe_6e1c), 0x2f_0000);
  write(0x4_a000, 0x0102_0304);
  t.equal(read(0x4_a001, 2), 0x0203, 'palettes take unaligned accesses');
});

t.test('PVINFO', async (t) => {
  const ready: boolean[] = [];
  const { read, read64, write, vgpu, gvt, mistakes } = fixture();
  gvt.on('display-ready', (_vgpu, on) => ready.push(on));
  t.equal(vgpu.pvNotified, false);
  t.strictSame(read64(PVINFO), [0x7654_4776, 0x4776_5447], 'magic');
  t.equal(vgpu.pvNotified, true);
  t.equal(read(PVINFO + 8, 2), 1, 'major');
  t.equal(read(PVINFO + 10, 2), 0, 'minor');
  t.equal(read(PVINFO + 0xc), 1, 'id');
  t.equal(read(PVINFO + 0x10), 0x1c, 'capabilities');
  t.strictSame(
    [0x40, 0x44, 0x48, 0x4c, 0x50].map((field) => read(PVINFO + field)),
    [128 * MIB, 64 * MIB, 896 * MIB, 384 * MIB, 4],
    'ranges and fences',
  );
  t.strictSame(
    [0x830, 0x834].map((field) => read(PVINFO + field)),
    [0xffff_ffff, 0xffff_ffff],
  );
  for (const field of [0, 4, 8, 0xc, 0x10, 0x14, 0x40, 0x50, 0x54, 0x7fc, 0x800, 0x81c, 0x860, 0xffc]) {
    const before = read(PVINFO + field);
    const errors: number = vgpu.statistics.guestErrors;
    t.equal(write(PVINFO + field, 0x5555_5555), Status.OK);
    t.equal(read(PVINFO + field), before, `0x${field.toString(16)} is read-only`);
    t.equal(vgpu.statistics.guestErrors, errors + 1);
  }
  const errors = vgpu.statistics.guestErrors;
  write(PVINFO + 0x838, 0x1000);
  for (const code of [1, 2, 3, 4, 5, 6, 7]) write(PVINFO + 0x818, code);
  t.equal(vgpu.statistics.guestErrors, errors, 'known notifications');
  mistakes.length = 0;
  for (const code of [0, 8, 0xffff_ffff]) t.equal(write(PVINFO + 0x818, code), Status.OK);
  t.equal(vgpu.statistics.guestErrors, errors + 3, 'unknown ones are told and change nothing');
  for (let field = 0x838; field < 0x860; field += 4) {
    write(PVINFO + field, field);
    t.equal(read(PVINFO + field), field, 'roots and descriptor are stored');
  }
  write(PVINFO + 0x830, 7, 2);
  t.equal(read(PVINFO + 0x830), 0xffff_0007);
  write(PVINFO + 0x804, 1);
  t.strictSame(ready, [true]);
  t.equal(read(PVINFO + 0x804), 1);
  t.equal(vgpu.failsafe, false);
});

t.test('fences', async (t) => {
  const { read, write, write64, read64, vgpu } = fixture();
  read(PVINFO);
  t.equal(write64(0x10_0018, 1, 2), Status.OK);
  t.strictSame(read64(0x10_0018), [1, 2]);
  t.equal(write(0x10_0020, 1), Status.EINVAL, 'the fifth of four');
  t.equal(read(0x10_0020), 0);
  t.equal(vgpu.failsafe, false, 'a guest that knows GVT-g only made a mistake');
});

t.test('failsafe', async (t) => {
  const causes: readonly (readonly [string, string, (f: Fixture) => void])[] = [
    ['unsupported-guest', 'a fence that is not its own, PVINFO never read', ({ write }) => write(0x10_0020, 1)],
    ['unsupported-guest', 'run lists, PVINFO never read', ({ write }) => write(0x2_229c, 0x8000_8000)],
    ['unsupported-guest', 'PPGTT, PVINFO never read', ({ write }) => write(0x229c, 0x0200_0200)],
    ['unsupported-guest', 'bit 0 of RING_MODE', ({ read, write }) => [read(PVINFO), write(0x1_229c, 0x0001_0001)]],
    ['insufficient-resource', 'the guest says so', ({ write }) => write(PVINFO + 0x814, 1)],
  ];
  for (const [reason, name, cause] of causes) {
    const f = fixture();
    const { read, write, vgpu, gvt, write64, read64, configWrite, backend } = f;
    const told: string[] = [];
    gvt.on('failsafe', (_vgpu, why) => told.push(why));
    f.map(128 * MIB, 5);
    cause(f);
    cause(f);
    t.strictSame(told, [reason], `${name}: told once`);
    t.equal(vgpu.failsafeReason, reason);
    t.equal(vgpu.hasWork, false);
    write(PVINFO, 0x1234_5678);
    t.equal(read(PVINFO), 0x1234_5678, 'registers are plain memory');
    write(0x2230, 7);
    t.equal(read(0x2230), 7);
    t.equal(write(0x5_0001, 0x11, 2), Status.OK, 'nothing is refused');
    t.equal(read(0x5_0001, 2), 0x11);
    t.equal(write(0x80_0001, 0x11, 1), Status.OK);
    t.equal(read(0x80_0001, 1), 0);
    const entry = 0x80_0000 + 128 * 256 * 8;
    const mapped = backend.mapped.size;
    t.equal(write64(entry, 0x7001, 3), Status.OK);
    t.strictSame(read64(entry), [0x7001, 3], 'entries are plain memory');
    t.equal(backend.mapped.size, mapped, 'and map nothing');
    gvt.reset(vgpu);
    t.equal(backend.mapped.size, 0);
    t.equal(vgpu.failsafe, false, 'a device reset cures it');
    t.equal(vgpu.pvNotified, false);
    configWrite(0x10, 4, BAR0);
    configWrite(0x04, 2, 2);
    t.equal(read(PVINFO), 0x7654_4776);
    t.strictSame(read64(entry), [0, 0]);
  }
  const f = fixture();
  f.read(PVINFO);
  f.write(0x229c, 0x8200_8200);
  t.equal(f.vgpu.failsafe, false, 'after PVINFO the same writes are right');
  const unmasked = fixture();
  unmasked.write(0x229c, 0x8201);
  t.equal(unmasked.vgpu.failsafe, false, 'bits whose write is not enabled do not count');
});

t.test('GT reset', async (t) => {
  const { read, write, vgpu } = fixture();
  read(PVINFO);
  write(0x2_2098, 5);
  write(0x4_41fc, 6);
  write(0x4_4200, 0x8000_0000);
  write(0x5_0000, 7);
  write(0x941c, 1 << 3);
  t.equal(read(0x2_2098), 5, 'an engine reset leaves registers alone');
  write(0x941c, 1);
  t.equal(read(0x2_2098), 0xffff_ffff, 'a full reset restores');
  t.equal(read(0x4_41fc), 0);
  t.equal(read(0x4_4200), 0x8000_0000, 'up to the interrupt registers');
  t.equal(read(0x5_0000), 7);
  t.equal(vgpu.pvNotified, true);
  t.equal(read(PVINFO + 0x44), 64 * MIB);
});

t.test('commands may write what the table allows', async (t) => {
  const { vgpu, read } = fixture();
  const { registers } = vgpu;
  for (const offset of [0xb118, 0x209c, 0x20c0, 0x7000, 0x7004, 0x7008, 0x7300, 0xe184, 0xe4f0, 0xe4f4, 0x2600, 0x2_2600])
    t.equal(registers.writeFromCommand(offset, 0x0001_0001, true), Status.OK, `0x${offset.toString(16)}`);
  t.equal(read(0x7000), 1);
  for (const offset of [0x2230, 0x229c, 0x2080, 0x941c, 0x4_4200, 0x4_430c, PVINFO + 0x808, 0x10_0000, 0x7_019c, 0x5_0000])
    t.equal(registers.writeFromCommand(offset, 0xffff_ffff, true), Status.EBADRQC, `0x${offset.toString(16)}`);
  t.equal(registers.writeFromCommand(0x4_4050, 5, true), Status.OK);
  t.equal(read(0x4_4050), 0, 'DERRMR is accepted and ignored');
  t.equal(registers.writeFromCommand(0x20_0000, 0, true), Status.EFAULT);
  t.equal(vgpu.failsafe, false);
});

t.test('no access throws or is a defect: every listed register, every size, both directions, hostile values', async (t) => {
  const next = random(0x5eed);
  const values = [0, 1, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0xffff_0000];
  const table = broadwellRegisters();
  const value = new Uint32Array(2);
  let f = fixture();
  let accesses = 0;
  const access = (gpa: number, size: number, write: boolean): void => {
    if (f.vgpu.failsafe || accesses % 4096 === 0) {
      f = fixture();
      if (next() & 1) f.read(PVINFO);
    }
    accesses++;
    value[0] = values[next() % 8] ?? next();
    value[1] = values[next() % 8] ?? next();
    const status = write
      ? f.gvt.emulateMmioWrite(f.vgpu.id, gpa as never, value, size)
      : f.gvt.emulateMmioRead(f.vgpu.id, gpa as never, value, size);
    if (f.gvt.defects > 0) t.fail(`0x${gpa.toString(16)} size ${size} ${write ? 'write' : 'read'}: ${String(f.gvt.lastDefect)}`);
    if (typeof status !== 'number' || status > 0) t.fail(`status ${status}`);
  };
  for (let dword = 0; dword < table.index.length; dword++) {
    if (table.index[dword] === 0) continue;
    for (const size of [1, 2, 4, 8])
      for (const write of [true, false]) access(BAR0 + dword * 4 + (next() % 16 === 0 ? next() % 8 : 0), size, write);
  }
  const sizes = [0, 1, 2, 3, 4, 7, 8, 16, -1];
  for (let i = 0; i < 60_000; i++) {
    const where = next() % 4;
    const gpa =
      where === 0
        ? BAR0 + (next() % (17 * MIB))
        : where === 1
          ? BAR0 + (next() % (2 * MIB))
          : where === 2
            ? BAR2 + (next() % (256 * MIB))
            : next();
    access(gpa, sizes[next() % sizes.length] as number, (next() & 1) === 1);
  }
  for (let i = 0; i < 20_000; i++) {
    value[0] = values[next() % 8] ?? next();
    f.gvt.emulateCfgWrite(f.vgpu.id, next() % 4100, value, sizes[next() % sizes.length] as number);
    f.gvt.emulateCfgRead(f.vgpu.id, next() % 4100, value, sizes[next() % sizes.length] as number);
  }
  t.equal(f.gvt.defects, 0);
  t.ok(accesses > 70_000);
});
