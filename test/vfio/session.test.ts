/** Each command's answer, byte for byte, over memory and over a socket. */
import t from 'tap';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { COMMAND_NAMES, Command, E, HeaderFlag } from '../../src/vfio/protocol.js';
import {
  BAR0_SIZE,
  closeFd,
  errorReply,
  hex,
  KINDS,
  memfd,
  message,
  openFds,
  Rig,
  ready,
  reply,
  TestDevice,
  text,
  u16,
  u32,
  u64,
  versionMessage,
} from './support.js';

const C = Command;
const before = openFds();
const CAPABILITIES = '"max_msg_fds":16,"max_dma_maps":65535,"max_data_xfer_size":1048576,"pgsizes":4096';
const versionReply = (id: number, more = ''): Uint8Array =>
  reply(id, C.VERSION, [...u16(0), ...u16(0), ...text(`{"capabilities":{${CAPABILITIES}${more}}}\0`)]);

for (const kind of KINDS) {
  t.test(`${kind}: VERSION`, async (t) => {
    const cases: [string, Uint8Array, Uint8Array, boolean][] = [
      ['without capabilities', message(7, C.VERSION, [...u16(0), ...u16(0)]), versionReply(7), true],
      ['minor 9 becomes 0', message(7, C.VERSION, [...u16(0), ...u16(9)]), versionReply(7), true],
      ['QEMU', versionMessage(7, { write_multiple: true, pgsizes: 4096 }), versionReply(7, ',"write_multiple":true'), true],
      ['write_multiple is no boolean', versionMessage(7, { write_multiple: 1 }), versionReply(7), true],
      ['a small client', versionMessage(7, { max_data_xfer_size: 4096 }), versionReply(7), true],
      ['too small a client', versionMessage(7, { max_data_xfer_size: 4095 }), errorReply(7, C.VERSION, E.INVAL), false],
      ['a size that is no number', versionMessage(7, { max_data_xfer_size: '1M' }), errorReply(7, C.VERSION, E.INVAL), false],
      ['major 1', message(7, C.VERSION, [...u16(1), ...u16(0)]), errorReply(7, C.VERSION, E.INVAL), false],
      ['no closing zero', message(7, C.VERSION, [...u32(0), ...text('{}')]), errorReply(7, C.VERSION, E.INVAL), false],
      ['no JSON', message(7, C.VERSION, [...u32(0), ...text('{"capabilities\0')]), errorReply(7, C.VERSION, E.INVAL), false],
      ['no object', message(7, C.VERSION, [...u32(0), ...text('null\0')]), errorReply(7, C.VERSION, E.INVAL), false],
      [
        'capabilities no object',
        message(7, C.VERSION, [...u32(0), ...text('{"capabilities":3}\0')]),
        errorReply(7, C.VERSION, E.INVAL),
        false,
      ],
      ['too long', message(7, C.VERSION, [...u32(0), ...text(`"${' '.repeat(5000)}"\0`)]), errorReply(7, C.VERSION, E.INVAL), false],
      ['too short', message(7, C.VERSION, [0, 0]), errorReply(7, C.VERSION, E.INVAL), true],
    ];
    for (const [name, sent, expected, open] of cases) {
      const rig = new Rig(kind);
      const answers = rig.exchange(sent);
      t.same(
        answers.map(({ bytes }) => hex(bytes)),
        [hex(expected)],
        name,
      );
      t.equal(rig.session.open, open, `${name}: ${open ? 'goes on' : 'ends'}`);
      rig.close();
    }
    const rig = ready(kind);
    t.same(hex(rig.exchange(versionMessage(8))[0]?.bytes as Uint8Array), hex(errorReply(8, C.VERSION, E.INVAL)), 'only once');
    rig.close();
  });

  t.test(`${kind}: nothing before VERSION`, async (t) => {
    for (const command of [C.DMA_MAP, C.DEVICE_GET_INFO, C.REGION_READ, C.REGION_WRITE, C.REGION_WRITE_MULTI, C.DEVICE_RESET, 77]) {
      const rig = new Rig(kind);
      const [answer] = rig.exchange(message(3, command, new Array(64).fill(0)));
      t.same(
        [answer?.errno, rig.session.open, rig.device.log, rig.device.resets],
        [E.INVAL, false, [], 0],
        COMMAND_NAMES[command] ?? 'unknown',
      );
      t.equal(rig.complaints.length, 1);
      rig.close();
    }
  });

  t.test(`${kind}: information and reset`, async (t) => {
    const fd = memfd(0x10_0000);
    const rig = ready(kind, new TestDevice(fd));
    const region = (id: number, index: number, argsz: number) =>
      rig.exchange(message(id, C.DEVICE_GET_REGION_INFO, [...u32(argsz), ...u32(0), ...u32(index), ...u32(0), ...u64(0), ...u64(0)]));
    const info = (argsz: number, flags: number, index: number, capability: number, size: number, offset: number, more: number[] = []) =>
      hex(
        reply(index, C.DEVICE_GET_REGION_INFO, [
          ...u32(argsz),
          ...u32(flags),
          ...u32(index),
          ...u32(capability),
          ...u64(size),
          ...u64(offset),
          ...more,
        ]),
      );
    const sparse = [...u16(1), ...u16(1), ...u32(0), ...u32(2), ...u32(0), ...u64(0), ...u64(0x1000), ...u64(0x2000), ...u64(0x2000)];
    const typed = (next: number, type: number, subtype: number) => [...u16(2), ...u16(1), ...u32(next), ...u32(type), ...u32(subtype)];
    const one = [...u16(1), ...u16(1), ...u32(0), ...u32(1), ...u32(0), ...u64(0), ...u64(0x1000)];
    const cases: [string, number, number, string, number][] = [
      ['trapped', 0, 32, info(32, 3, 0, 0, BAR0_SIZE, 0), 0],
      ['sparse, first question', 1, 32, info(80, 0xf, 1, 32, 0x4000, 0x1000), 1],
      ['sparse, one byte short', 1, 79, info(80, 0xf, 1, 32, 0x4000, 0x1000), 1],
      ['sparse, second question', 1, 80, info(80, 0xf, 1, 32, 0x4000, 0x1000, sparse), 1],
      ['sparse, room to spare', 1, 4096, info(80, 0xf, 1, 32, 0x4000, 0x1000, sparse), 1],
      ['mapped whole', 2, 32, info(32, 7, 2, 0, 0x1000, 0), 1],
      ['not there', 3, 32, info(32, 0, 3, 0, 0, 0), 0],
      ['read-only', 6, 32, info(32, 1, 6, 0, 0x800, 0), 0],
      ['configuration space', 7, 32, info(32, 3, 7, 0, 0x100, 0), 0],
      ['typed', 9, 48, info(48, 0xb, 9, 32, 0x100, 0, typed(0, 1, 1)), 0],
      ['typed and sparse', 10, 80, info(80, 0xb, 10, 32, 0x1000, 0, [...typed(48, 0x8000_8086, 2), ...one]), 0],
    ];
    for (const [name, index, argsz, expected, fds] of cases) {
      const [answer] = region(index, index, argsz);
      t.equal(hex(answer?.bytes as Uint8Array), expected, `region: ${name}`);
      t.equal(answer?.fds.length, fds, `${name}: ${fds} descriptors`);
      for (const got of answer?.fds ?? []) {
        t.equal(sys.lseek(got, 0, 2), 0x10_0000, 'the file');
        closeFd(got);
      }
    }
    for (const [index, argsz] of [
      [0, 31],
      [11, 32],
      [0xffff_ffff, 32],
      [0, 0],
    ] as const)
      t.equal(
        hex(region(5, index, argsz)[0]?.bytes as Uint8Array),
        hex(errorReply(5, C.DEVICE_GET_REGION_INFO, E.INVAL)),
        `${index}, ${argsz}`,
      );

    const exchange = (bytes: Uint8Array) => rig.exchange(bytes).map((answer) => hex(answer.bytes));
    const device = (argsz: number) => exchange(message(9, C.DEVICE_GET_INFO, [...u32(argsz), ...u32(0), ...u32(0), ...u32(0)]));
    t.same(device(16), [hex(reply(9, C.DEVICE_GET_INFO, [...u32(16), ...u32(3), ...u32(11), ...u32(5)]))]);
    t.same(device(15), [hex(errorReply(9, C.DEVICE_GET_INFO, E.INVAL))]);
    const irq = (index: number, argsz = 16) =>
      exchange(message(9, C.DEVICE_GET_IRQ_INFO, [...u32(argsz), ...u32(0), ...u32(index), ...u32(0)]));
    for (const [index, flags, count] of [
      [0, 7, 1],
      [1, 3, 4],
      [2, 9, 16],
      [3, 0, 0],
      [4, 0, 1],
    ] as const)
      t.same(irq(index), [hex(reply(9, C.DEVICE_GET_IRQ_INFO, [...u32(16), ...u32(flags), ...u32(index), ...u32(count)]))], `irq ${index}`);
    for (const [index, argsz] of [
      [5, 16],
      [0xffff_ffff, 16],
      [0, 15],
    ] as const)
      t.same(irq(index, argsz), [hex(errorReply(9, C.DEVICE_GET_IRQ_INFO, E.INVAL))]);
    const ioFds = (index: number, flags = 0, argsz = 16) =>
      exchange(message(9, C.DEVICE_GET_REGION_IO_FDS, [...u32(argsz), ...u32(flags), ...u32(index), ...u32(0)]));
    t.same(ioFds(0), [hex(reply(9, C.DEVICE_GET_REGION_IO_FDS, [...u32(16), ...u32(0), ...u32(0), ...u32(0)]))], 'no ioeventfds');
    for (const bad of [ioFds(11), ioFds(0, 1), ioFds(0, 0, 15)]) t.same(bad, [hex(errorReply(9, C.DEVICE_GET_REGION_IO_FDS, E.INVAL))]);
    t.same(exchange(message(9, C.DEVICE_RESET)), [hex(reply(9, C.DEVICE_RESET))]);
    t.equal(rig.device.resets, 1);
    for (const command of [0, 11, 12, 14, 16, 17, 18, 19, 0xffff])
      t.same(exchange(message(9, command, new Array(32).fill(0))), [hex(errorReply(9, command, E.NOTSUP))], `command ${command}`);
    t.ok(rig.session.open);
    rig.close();
    closeFd(fd);
  });

  t.test(`${kind}: region accesses`, async (t) => {
    const rig = ready(kind);
    const access = (region: number, offset: number | bigint, count: number, data: number[] = []) => [
      ...u64(offset),
      ...u32(region),
      ...u32(count),
      ...data,
    ];
    const exchange = (bytes: Uint8Array) => rig.exchange(bytes).map((answer) => hex(answer.bytes));
    t.same(exchange(message(1, C.REGION_WRITE, access(0, 0x10, 4, [1, 2, 3, 4]))), [hex(reply(1, C.REGION_WRITE, access(0, 0x10, 4)))]);
    t.same(exchange(message(2, C.REGION_READ, access(0, 0x10, 4))), [hex(reply(2, C.REGION_READ, access(0, 0x10, 4, [1, 2, 3, 4])))]);
    t.same(exchange(message(2, C.REGION_READ, access(6, 0x7ff, 1))), [hex(reply(2, C.REGION_READ, access(6, 0x7ff, 1, [0xa6])))]);
    // A socket takes no more than its buffer while this thread does not read.
    const most = kind === 'memory' ? 0x10_0000 : 0x1_0000;
    const [all] = rig.exchange(message(3, C.REGION_READ, access(0, BAR0_SIZE - most, most)));
    t.equal(all?.body.length, 16 + most, 'as much as one message may have');
    rig.device.log.length = 0;
    const refused: [string, Uint8Array][] = [
      ['a region that is not there', message(4, C.REGION_READ, access(3, 0, 4))],
      ['a region far away', message(4, C.REGION_READ, access(0xffff_ffff, 0, 4))],
      ['the end', message(4, C.REGION_READ, access(0, BAR0_SIZE, 1))],
      ['over the end', message(4, C.REGION_READ, access(0, BAR0_SIZE - 1, 2))],
      ['64-bit wrap', message(4, C.REGION_READ, access(0, 2n ** 64n - 4n, 8))],
      ['2^63', message(4, C.REGION_READ, access(0, 2n ** 63n, 8))],
      ['just above 2^53', message(4, C.REGION_READ, access(0, 2n ** 53n + 1n, 1))],
      ['nothing', message(4, C.REGION_READ, access(0, 0, 0))],
      ['more than a message has', message(4, C.REGION_READ, access(0, 0, 0x10_0001))],
      ['4 GiB - 1', message(4, C.REGION_READ, access(0, 0, 0xffff_ffff))],
      ['short', message(4, C.REGION_READ, access(0, 0, 4).slice(0, 15))],
      ['a ROM is written', message(4, C.REGION_WRITE, access(6, 0, 4, [1, 2, 3, 4]))],
      ['too little data', message(4, C.REGION_WRITE, access(0, 0, 4, [1, 2, 3]))],
      ['too much data', message(4, C.REGION_WRITE, access(0, 0, 4, [1, 2, 3, 4, 5]))],
      ['no data', message(4, C.REGION_WRITE, access(0, 0, 4))],
    ];
    for (const [name, bytes] of refused) t.same(exchange(bytes), [hex(errorReply(4, bytes[2] as number, E.INVAL))], name);
    t.same(rig.device.log, [], 'the device was not asked');
    rig.device.status = -E.IO;
    t.same(exchange(message(5, C.REGION_READ, access(0, 0, 4))), [hex(errorReply(5, C.REGION_READ, E.IO))], "the device's errno");
    t.same(exchange(message(5, C.REGION_WRITE, access(0, 0, 1, [0]))), [hex(errorReply(5, C.REGION_WRITE, E.IO))]);
    rig.close();
  });

  t.test(`${kind}: what wants no reply gets none`, async (t) => {
    const rig = ready(kind);
    const posted = (command: number, body: number[]) => rig.exchange(message(6, command, body, HeaderFlag.NO_REPLY));
    t.same(posted(C.REGION_WRITE, [...u64(8), ...u32(0), ...u32(2), 7, 8]), []);
    t.same(rig.device.log, ['w 0+0x8 0708']);
    t.same(posted(C.REGION_WRITE, [...u64(8), ...u32(3), ...u32(2), 7, 8]), [], 'not even an error');
    t.same(posted(C.REGION_READ, [...u64(8), ...u32(0), ...u32(2)]), []);
    t.same(posted(C.DEVICE_RESET, []), []);
    t.same(posted(C.DIRTY_PAGES, []), []);
    rig.device.status = -E.IO;
    t.same(posted(C.REGION_WRITE, [...u64(8), ...u32(0), ...u32(2), 7, 8]), []);
    t.same([rig.session.open, rig.session.refused], [true, 3]);
    rig.close();
  });

  t.test(`${kind}: REGION_WRITE_MULTI`, async (t) => {
    const rig = ready(kind);
    const entry = (region: number, offset: number | bigint, data: number[], count = data.length) => [
      ...u64(offset),
      ...u32(region),
      ...u32(count),
      ...data,
      ...new Array(8 - data.length).fill(0xee),
    ];
    const multi = (entries: number[][], flags = 0, count: number | bigint = entries.length) =>
      message(1, C.REGION_WRITE_MULTI, [...u64(count), ...entries.flat()], flags);
    const three = [entry(0, 0, [1]), entry(0, 8, [1, 2, 3, 4, 5, 6, 7, 8]), entry(7, 4, [6, 0])];
    t.same(rig.exchange(multi(three, HeaderFlag.NO_REPLY)), []);
    t.same(rig.device.log.splice(0), ['w 0+0x0 01', 'w 0+0x8 0102030405060708', 'w 7+0x4 0600']);
    t.same(hex(rig.exchange(multi(three))[0]?.bytes as Uint8Array), hex(reply(1, C.REGION_WRITE_MULTI, u64(3))), 'with a reply');
    rig.device.log.length = 0;
    const holes = [
      entry(3, 0, [1]),
      entry(0, BAR0_SIZE, [1]),
      entry(0, 2n ** 64n - 1n, [1]),
      entry(0, 0, [1], 9),
      entry(0, 0, [], 0),
      entry(6, 0, [1]),
    ];
    const before = rig.session.refused;
    t.same(rig.exchange(multi([...holes, entry(0, 3, [9])], HeaderFlag.NO_REPLY)), []);
    t.same(rig.device.log.splice(0), ['w 0+0x3 09'], 'entries that cannot be are left out');
    t.equal(rig.session.refused - before, holes.length);
    t.same(rig.exchange(multi(holes, HeaderFlag.NO_REPLY)), [], 'none that can be');
    t.equal(rig.exchange(multi(new Array(200).fill(entry(0, 1, [4]))))[0]?.errno, 0, '200 entries');
    t.equal(rig.device.log.splice(0).length, 200);
    for (const [name, bad] of [
      ['201', multi(new Array(201).fill(entry(0, 1, [4])))],
      ['none', multi([])],
      ['a count that is too large', multi(three, 0, 4)],
      ['one that is too small', multi(three, 0, 2)],
      ['one that wraps', multi(three, 0, 3n + 2n ** 61n)],
      ['short', message(1, C.REGION_WRITE_MULTI, [1, 0, 0])],
    ] as const)
      t.equal(rig.exchange(bad)[0]?.errno, E.INVAL, name);
    t.same(rig.device.log, []);
    // The message stays until its last entry: another behind it is not mixed in.
    rig.peer.send(multi(three, HeaderFlag.NO_REPLY));
    rig.peer.send(message(2, C.DEVICE_RESET));
    rig.serve();
    t.same(
      rig.peer.take().map(({ id, command }) => [id, command]),
      [[2, C.DEVICE_RESET]],
    );
    t.equal(rig.device.log.length, 3);
    rig.close();
  });
}

t.test('no descriptor is left', async (t) => t.equal(openFds(), before));
