/** How messages and descriptors travel: in bursts, in pieces, and with requests of the server between them. */
import t from 'tap';
import type { MptError } from '../../src/core/errors.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets, MessageBuffer } from '../../src/native/sockets.js';
import { BUFFER_SIZE, Command, E, HeaderFlag, LIMITS } from '../../src/vfio/protocol.js';
import { SocketTransport } from '../../src/vfio/transport.js';
import { refused } from '../core/expect.js';
import {
  BAR0_SIZE,
  closeFd,
  counted,
  errorReply,
  eventfd,
  hex,
  join,
  KINDS,
  mappings,
  memfd,
  message,
  OURS,
  openFds,
  Peer,
  Rig,
  ready,
  reply,
  u32,
  u64,
  versionMessage,
} from './support.js';

const C = Command;
const before = [openFds(), mappings(OURS)];
/** The first request of a server has this id. */
const REQUEST = 0x8000;
const MIB = 0x10_0000;

const read = (id: number, offset: number, count: number) => message(id, C.REGION_READ, [...u64(offset), ...u32(0), ...u32(count)]);
const dmaMap = (id: number, iova: number, size: number, flags = 3) =>
  message(id, C.DMA_MAP, [...u32(32), ...u32(flags), ...u64(0), ...u64(iova), ...u64(size)]);
const dmaReply = (id: number, address: number, data: Uint8Array): Uint8Array =>
  join(message(id, C.DMA_READ, [...u64(address), ...u64(data.length)], HeaderFlag.REPLY, 32 + data.length), data);
const setMsix = (id: number, start: number, count: number) =>
  message(id, C.DEVICE_SET_IRQS, [...u32(20), ...u32(0x24), ...u32(2), ...u32(start), ...u32(count)]);

for (const kind of KINDS) {
  t.test(`${kind}: many messages in one send`, async (t) => {
    const rig = new Rig(kind);
    // More replies than this do not fit into a socket that nobody reads.
    const reads = Array.from({ length: kind === 'memory' ? 600 : 200 }, (_, i) => read(i, i % 100, 4));
    const answers = rig.exchange(join(versionMessage(999), ...reads));
    t.same(
      answers.map(({ id, errno }) => [id, errno]),
      [999, ...reads.keys()].map((id) => [id, 0]),
      'answered in their order',
    );
    rig.close();
  });

  t.test(`${kind}: one message in many sends`, async (t) => {
    const rig = new Rig(kind);
    const fd = eventfd();
    const conversation = join(versionMessage(1), read(2, 8, 4), setMsix(3, 0, 1), read(4, 0, 1));
    const at = conversation.length - read(4, 0, 1).length - setMsix(3, 0, 1).length;
    const ids: number[] = [];
    for (let i = 0; i < conversation.length; i++) {
      rig.peer.send(conversation.subarray(i, i + 1), i === at ? [fd] : []);
      rig.serve();
      ids.push(...rig.peer.take().map(({ id }) => id));
    }
    t.same(ids, [1, 2, 3, 4]);
    t.ok(rig.device.irqs.trigger(2, 0), 'the descriptor came with the first byte');
    t.equal(counted(fd), 1);
    // Pieces of every length, over the borders of messages.
    for (let length = 1; length < 80; length++) {
      const stream = join(read(1, 0, 8), read(2, 1, 2), message(3, C.DEVICE_RESET));
      for (let i = 0; i < stream.length; i += length) {
        rig.peer.send(stream.slice(i, i + length));
        if (length % 3 !== 0) rig.serve();
      }
      rig.serve();
      const answers = rig.peer.take().map(({ id }) => id);
      if (answers.join() !== '1,2,3') t.fail(`pieces of ${length}: ${answers}`);
    }
    rig.close();
    closeFd(fd);
  });

  t.test(`${kind}: descriptors go to the message that they came with`, async (t) => {
    const rig = ready(kind);
    const files = [memfd(0x1000), memfd(0x1000), memfd(0x1000)];
    for (const [i, fd] of files.entries()) sys.write(fd, new Uint8Array(8).fill(0x11 * (i + 1)));
    const events = [eventfd(), eventfd(), eventfd()];
    const held = openFds();
    // Everything lies in the socket before the server looks.
    rig.peer.send(join(read(1, 0, 4), read(2, 0, 4)));
    rig.peer.send(dmaMap(3, 0x10_0000, 0x1000), [files[0] as number]);
    rig.peer.send(dmaMap(4, 0x20_0000, 0x1000), [files[1] as number]);
    rig.peer.send(dmaMap(5, 0x30_0000, 0x1000));
    rig.peer.send(message(6, C.REGION_WRITE, [...u64(0), ...u32(0), ...u32(0xf000), ...new Array(0xf000).fill(5)]));
    rig.peer.send(setMsix(7, 3, 2), events.slice(0, 2));
    rig.peer.send(dmaMap(8, 0x40_0000, 0x1000), [files[2] as number]);
    rig.peer.send(setMsix(9, 8, 1), events.slice(2));
    rig.peer.send(read(10, 0, 4));
    rig.serve();
    t.same(
      rig.peer.take().map(({ id, errno }) => [id, errno]),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((id) => [id, 0]),
    );
    t.same(
      rig.memory.maps.map(({ kind }) => kind),
      ['mapped', 'mapped', 'message', 'mapped'],
    );
    const firstByte = (gpa: number): number => {
      const byte = new Uint8Array(1);
      rig.memory.read(gpa, byte, 0, 1);
      return byte[0] as number;
    };
    t.same([0x10_0000, 0x20_0000, 0x40_0000].map(firstByte), [0x11, 0x22, 0x33]);
    for (const vector of [3, 4, 8]) rig.device.irqs.trigger(2, vector);
    t.same(events.map(counted), [1, 1, 1]);
    t.equal(openFds(), held + 3, 'only the events are kept');
    rig.close();
    for (const fd of [...files, ...events]) closeFd(fd);
  });

  t.test(`${kind}: descriptors where none belong`, async (t) => {
    const rig = ready(kind);
    const fd = eventfd();
    const held = openFds();
    for (const bytes of [
      read(1, 0, 4),
      message(1, C.DEVICE_RESET),
      message(1, C.DEVICE_GET_INFO, [...u32(16), ...u32(0), ...u64(0)]),
      message(1, 99),
    ]) {
      t.ok((rig.exchange(bytes, [fd])[0]?.errno ?? 0) > 0, `command ${bytes[2]}`);
      t.equal(openFds(), held);
    }
    t.equal(rig.exchange(dmaMap(1, 0, 0x1000), [fd, fd])[0]?.errno, E.INVAL);
    t.equal(rig.device.resets, 0);
    rig.peer.send(dmaMap(1, 0, 0x1000).subarray(0, 20), [fd]);
    rig.serve();
    rig.close();
    t.equal(openFds(), held - (kind === 'socket' ? 2 : 0), 'those of a message that never became whole');
    closeFd(fd);
  });

  t.test(`${kind}: DMA in the middle of an access`, async (t) => {
    const rig = ready(kind);
    const fd = eventfd();
    rig.exchange(dmaMap(1, 0x1_0000, 0x1_0000));
    const seen: string[] = [];
    const bytes = new Uint8Array(0x3000);
    rig.device.onAccess = ({ bytes: access, write }) => {
      const was = hex(access);
      rig.memory.read(0x1_1000, bytes, 0, bytes.length);
      rig.memory.write(0x1_0004, Uint8Array.of(1, 2, 3), 0, 3);
      seen.push(`${hex(bytes.subarray(0x2fff))}, ${write ? `${was} ${hex(access)}` : ''}`);
    };
    const data = new Uint8Array(0x3000).fill(0x77);
    // Behind the access and before the replies that it waits for there are other commands.
    rig.peer.send(
      join(message(2, C.REGION_WRITE, [...u64(0), ...u32(0), ...u32(4), 9, 8, 7, 6]), message(3, C.DEVICE_RESET), read(4, 0, 1)),
    );
    rig.peer.send(setMsix(5, 0, 1), [fd]);
    rig.peer.send(dmaReply(REQUEST, 0x1_1000, data));
    rig.peer.send(setMsix(6, 1, 1), [fd]);
    // QEMU answers DMA_WRITE by a bare header.
    rig.peer.send(message(REQUEST + 1, C.DMA_WRITE, [], HeaderFlag.REPLY));
    rig.peer.send(dmaReply(REQUEST + 2, 0x1_1000, data));
    rig.peer.send(message(REQUEST + 3, C.DMA_WRITE, [...u64(0x1_0004), ...u64(3)], HeaderFlag.REPLY));
    rig.serve();
    const dma = (id: number) => [
      hex(message(id, C.DMA_READ, [...u64(0x1_1000), ...u64(0x3000)])),
      hex(message(id + 1, C.DMA_WRITE, [...u64(0x1_0004), ...u64(3), 1, 2, 3])),
    ];
    t.same(
      rig.peer.take().map((answer) => hex(answer.bytes)),
      [
        ...dma(REQUEST),
        hex(reply(2, C.REGION_WRITE, [...u64(0), ...u32(0), ...u32(4)])),
        hex(reply(3, C.DEVICE_RESET)),
        ...dma(REQUEST + 2),
        hex(reply(4, C.REGION_READ, [...u64(0), ...u32(0), ...u32(1), 0])),
        hex(reply(5, C.DEVICE_SET_IRQS)),
        hex(reply(6, C.DEVICE_SET_IRQS)),
      ],
    );
    t.same(seen, ['77, 09080706 09080706', '77, '], "the access's data stayed as it was");
    rig.device.irqs.trigger(2, 0);
    rig.device.irqs.trigger(2, 1);
    t.equal(counted(fd), 2);
    rig.close();
    closeFd(fd);
  });

  t.test(`${kind}: a DMA that the client does not answer well`, async (t) => {
    const fd = eventfd();
    const held = openFds();
    const data = new Uint8Array(8).fill(1);
    const cases: [string, Uint8Array[], boolean, boolean][] = [
      ['as it should', [dmaReply(REQUEST, 0, data)], true, true],
      ['an error', [errorReply(REQUEST, C.DMA_READ, E.FAULT)], false, true],
      ['too short', [dmaReply(REQUEST, 0, data.subarray(1))], false, true],
      ['too long', [dmaReply(REQUEST, 0, new Uint8Array(9))], false, true],
      ['a bare header', [message(REQUEST, C.DMA_READ, [], HeaderFlag.REPLY)], false, true],
      ['another command', [message(REQUEST, C.DMA_WRITE, [...u64(0), ...u64(8), ...data], HeaderFlag.REPLY)], false, true],
      ['another count', [message(REQUEST, C.DMA_READ, [...u64(0), ...u64(9), ...data], HeaderFlag.REPLY)], false, true],
      ['an impossible size', [message(REQUEST, C.DMA_READ, [], HeaderFlag.REPLY, 15)], false, false],
      ['two replies', [dmaReply(REQUEST, 0, data), dmaReply(REQUEST, 0, data)], true, false],
      ['a reply before it', [dmaReply(REQUEST + 1, 0, data), dmaReply(REQUEST, 0, data)], true, false],
    ];
    for (const [name, replies, works, open] of cases) {
      const rig = ready(kind);
      rig.exchange(dmaMap(1, 0, 0x1000));
      let outcome: unknown;
      rig.device.onAccess = () => {
        try {
          rig.memory.read(0, new Uint8Array(8), 0, 8);
          outcome = true;
        } catch (error) {
          outcome = error;
        }
      };
      rig.peer.send(read(2, 0, 4));
      for (const bytes of replies) rig.peer.send(bytes, [fd]);
      rig.serve();
      t.equal(outcome === true, works, name);
      if (!works) t.equal((outcome as MptError).code, 'NOT_RAM', name);
      t.equal(rig.session.open, open, `${name}: the connection ${open ? 'stands' : 'ends'}`);
      rig.close();
      t.equal(openFds(), held, `${name}: its descriptors are closed`);
    }
    closeFd(fd);
  });

  t.test(`${kind}: a client that goes, or is silent, during a DMA`, async (t) => {
    for (const how of ['gone', 'silent'] as const) {
      const rig = ready(kind);
      rig.exchange(dmaMap(1, 0, 0x1000));
      const since = performance.now();
      if (how === 'gone') rig.peer.close();
      refused(t, 'NOT_RAM', () => rig.memory.read(0, new Uint8Array(8), 0, 8));
      const ms = performance.now() - since;
      t.ok(how === 'gone' ? ms < 1000 : ms > 1000 && ms < 4000, `${how}: ${Math.round(ms)} ms`);
      t.equal(rig.session.open, false);
      t.equal(rig.session.receive(0), undefined);
      refused(t, 'NOT_RAM', () => rig.memory.write(0, new Uint8Array(8), 0, 8));
      rig.close();
    }
  });
}

t.test('an access may need any amount of DMA, whatever lies before and behind it', async (t) => {
  const rig = new Rig('memory');
  rig.exchange(versionMessage(1, { max_data_xfer_size: 0x1_0000 }));
  rig.exchange(dmaMap(1, 0, 16 * MIB));
  const target = new Uint8Array(8 * MIB);
  rig.device.onAccess = ({ bytes }) => {
    if (bytes.length === MIB) rig.memory.read(MIB, target, 0, target.length);
  };
  // Small messages first, so that the large one does not begin at the buffer's start; the replies come in pieces of 64 KiB.
  rig.peer.send(
    join(
      ...Array.from({ length: 1500 }, (_, i) =>
        message(i, C.REGION_WRITE, [...u64(0), ...u32(0), ...u32(4), 1, 2, 3, 4], HeaderFlag.NO_REPLY),
      ),
    ),
  );
  const large = new Uint8Array(MIB).fill(0x5a);
  rig.peer.send(join(message(7, C.REGION_WRITE, [...u64(0), ...u32(0), ...u32(MIB)], 0, 32 + MIB), large));
  for (let i = 0; i < 128; i++) {
    rig.peer.send(dmaReply(REQUEST + i, MIB + i * 0x1_0000, new Uint8Array(0x1_0000).fill(i)));
    rig.peer.send(read(100 + i, 0, 4));
  }
  rig.serve();
  const answers = rig.peer.take().filter(({ command }) => command !== C.DMA_READ);
  t.same(
    answers.map(({ id, errno }) => [id, errno]),
    [7, ...Array.from({ length: 128 }, (_, i) => 100 + i)].map((id) => [id, 0]),
  );
  t.ok(
    Array.from({ length: 128 }, (_, i) => i).every((i) => target[i * 0x1_0000] === i && target[i * 0x1_0000 + 0xffff] === i),
    '8 MiB came',
  );
  t.ok(Buffer.from(rig.device.bar0.buffer, 0, MIB).equals(large), 'the data of the access stayed as it was');
  t.equal(BAR0_SIZE, 2 * MIB);
  rig.close();
});

t.test('a flood of descriptors', async (t) => {
  const rig = ready('socket');
  const fd = eventfd();
  const held = openFds();
  // As many as one sendmsg takes.
  const output = new MessageBuffer(sys, libcSockets, BUFFER_SIZE, 253);
  const own = new SocketTransport(sys, libcSockets, (rig.peer.transport as SocketTransport).fd, { input: output, output });
  const flood = new Peer(own);
  for (const count of [17, 18, 19, 100, 253]) {
    flood.send(dmaMap(1, 0, 0x1000), new Array(count).fill(fd));
    rig.serve();
    t.equal(rig.peer.take()[0]?.errno, E.INVAL, `${count} descriptors`);
    t.equal(openFds(), held);
    flood.send(setMsix(1, 0, 16), new Array(count).fill(fd));
    rig.serve();
    t.equal(rig.peer.take()[0]?.errno, E.INVAL);
    t.equal(openFds(), held);
  }
  // The same message may carry descriptors on several bytes.
  const bytes = dmaMap(1, 0, 0x1000);
  for (let i = 0; i < bytes.length; i++) flood.send(bytes.subarray(i, i + 1), [fd]);
  rig.serve();
  t.equal(rig.peer.take()[0]?.errno, E.INVAL);
  t.equal(openFds(), held);
  // While the server waits for an answer it reads on, but not for ever.
  rig.exchange(dmaMap(2, 0, 0x1000));
  for (let i = 0; i < 40; i++) rig.peer.send(setMsix(i, 0, 16), new Array(16).fill(fd));
  refused(t, 'NOT_RAM', () => rig.memory.read(0, new Uint8Array(8), 0, 8));
  t.equal(rig.session.stream.end, 'too many descriptors wait');
  t.ok(openFds() - held <= 16 * (LIMITS.maxMsgFds + 1), `${openFds() - held} are held`);
  rig.session.close();
  rig.peer.close();
  output.close();
  t.equal(openFds(), held - 2);
  closeFd(fd);
});

t.test('nothing is left', async (t) => t.same([openFds(), mappings(OURS)], before));
