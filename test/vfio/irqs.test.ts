/** SET_IRQS in all its forms, with real eventfds. */
import t from 'tap';
import { IrqIndex } from '../../src/core/vfio/device.js';
import { IrqSetFlag as F } from '../../src/core/vfio/irqs.js';
import { Command, E } from '../../src/vfio/protocol.js';
import { closeFd, counted, eventfd, hex, KINDS, memfd, message, openFds, type Rig, raise, ready, reply, u32 } from './support.js';

const NONE = F.DATA_NONE;
const EVENT = F.DATA_EVENTFD | F.TRIGGER;

/** SET_IRQS; gives the errno. */
function set(
  rig: Rig,
  flags: number,
  index: number,
  start: number,
  count: number,
  bools: number[] = [],
  fds: readonly number[] = [],
): number {
  const answers = rig.exchange(
    message(1, Command.DEVICE_SET_IRQS, [...u32(20 + bools.length), ...u32(flags), ...u32(index), ...u32(start), ...u32(count), ...bools]),
    fds,
  );
  return answers[0]?.errno ?? -1;
}

for (const kind of KINDS) {
  t.test(`${kind}: triggers`, async (t) => {
    const before = openFds();
    const rig = ready(kind);
    const { irqs } = rig.device;
    const fds = [eventfd(), eventfd(), eventfd()];
    const held = openFds();
    const [answer] = rig.exchange(message(1, Command.DEVICE_SET_IRQS, [...u32(20), ...u32(EVENT), ...u32(2), ...u32(4), ...u32(3)]), fds);
    t.equal(hex(answer?.bytes as Uint8Array), hex(reply(1, Command.DEVICE_SET_IRQS)));
    t.equal(openFds(), held + 3, 'kept, once each');
    t.same(
      [3, 4, 5, 6, 7].map((vector) => irqs.trigger(IrqIndex.MSIX, vector)),
      [false, true, true, true, false],
    );
    t.same(fds.map(counted), [1, 1, 1]);
    t.equal(set(rig, NONE | F.TRIGGER, 2, 5, 2), 0);
    t.same(fds.map(counted), [0, 1, 1], 'DATA_NONE raises them');
    t.equal(set(rig, F.DATA_BOOL | F.TRIGGER, 2, 4, 3, [1, 0, 255]), 0);
    t.same(fds.map(counted), [1, 0, 1], 'DATA_BOOL raises those that are not 0');
    t.equal(set(rig, EVENT, 2, 5, 1), 0, 'without a descriptor: de-assigned');
    t.equal(openFds(), held + 2);
    t.same(
      [4, 5, 6].map((vector) => irqs.trigger(2, vector)),
      [true, false, true],
    );
    const other = eventfd();
    t.equal(set(rig, EVENT, 2, 4, 1, [], [other]), 0, 'assigned again');
    t.equal(openFds(), held + 3, 'the one before is closed');
    fds.map(counted);
    irqs.trigger(2, 4);
    t.same([counted(fds[0] as number), counted(other)], [0, 1]);
    t.equal(set(rig, EVENT, 2, 0, 16, [], new Array(16).fill(other)), 0, 'as many as a message carries');
    t.equal(set(rig, NONE | F.TRIGGER, 2, 0, 0), 0, 'all are given up');
    t.equal(openFds(), held + 1);
    t.equal(irqs.trigger(2, 4), false);
    t.equal(set(rig, EVENT, 2, 0, 1, [], [other]), 0);
    rig.close();
    for (const fd of [...fds, other]) closeFd(fd);
    t.equal(openFds(), before, 'the rest goes with the connection');
  });

  t.test(`${kind}: a level-triggered line`, async (t) => {
    const rig = ready(kind);
    const { irqs } = rig.device;
    const fd = eventfd();
    irqs.setLevel(0, 0, true);
    t.equal(set(rig, EVENT, 0, 0, 1, [], [fd]), 0);
    t.equal(counted(fd), 1, 'a line that was high before');
    irqs.setLevel(0, 0, false);
    irqs.setLevel(0, 0, true);
    t.equal(counted(fd), 0, 'masked since');
    t.equal(set(rig, NONE | F.UNMASK, 0, 0, 1), 0);
    t.equal(counted(fd), 1, 'raised again: the line is high');
    irqs.setLevel(0, 0, false);
    t.equal(set(rig, NONE | F.UNMASK, 0, 0, 1), 0);
    t.equal(counted(fd), 0);
    t.equal(set(rig, NONE | F.MASK, 0, 0, 1), 0);
    irqs.setLevel(0, 0, true);
    t.equal(counted(fd), 0);
    t.equal(set(rig, F.DATA_BOOL | F.UNMASK, 0, 0, 1, [0]), 0, 'a bool of 0 does nothing');
    t.equal(counted(fd), 0);
    t.equal(set(rig, F.DATA_BOOL | F.UNMASK, 0, 0, 1, [1]), 0);
    t.equal(counted(fd), 1);
    // By events, which the server looks at when it goes on.
    const [mask, unmask] = [eventfd(), eventfd()];
    t.equal(set(rig, F.DATA_EVENTFD | F.UNMASK, 0, 0, 1, [], [unmask]), 0);
    t.equal(set(rig, F.DATA_EVENTFD | F.MASK, 0, 0, 1, [], [mask]), 0);
    t.equal(irqs.polled().length, 2);
    raise(unmask);
    irqs.pollEvents();
    t.equal(counted(fd), 1, 'unmasked by event, and raised');
    irqs.setLevel(0, 0, false);
    raise(unmask);
    irqs.pollEvents();
    raise(mask);
    irqs.pollEvents();
    irqs.setLevel(0, 0, true);
    t.equal(counted(fd), 0, 'masked by event');
    t.equal(set(rig, F.DATA_EVENTFD | F.MASK, 0, 0, 1), 0, 'de-assigned');
    t.equal(irqs.polled().length, 1);
    t.equal(set(rig, NONE | F.TRIGGER, 0, 0, 0), 0);
    t.equal(irqs.polled().length, 0);
    rig.close();
    for (const each of [fd, mask, unmask]) closeFd(each);
  });

  t.test(`${kind}: an edge that comes while masked`, async (t) => {
    const rig = ready(kind);
    const fd = eventfd();
    t.equal(set(rig, EVENT, 1, 3, 1, [], [fd]), 0);
    t.equal(set(rig, NONE | F.MASK, 1, 3, 1), 0);
    rig.device.irqs.trigger(1, 3);
    rig.device.irqs.trigger(1, 3);
    t.equal(counted(fd), 0);
    t.equal(set(rig, NONE | F.UNMASK, 1, 3, 1), 0);
    t.equal(counted(fd), 1, 'comes once');
    t.equal(set(rig, NONE | F.UNMASK, 1, 3, 1), 0);
    t.equal(counted(fd), 0);
    rig.close();
    closeFd(fd);
  });

  t.test(`${kind}: refused`, async (t) => {
    const rig = ready(kind);
    const held = openFds();
    const fd = eventfd();
    const file = memfd(4096);
    const cases: [string, number, number, number, number, number[], number[]][] = [
      ['no data', F.TRIGGER, 0, 0, 1, [], []],
      ['two kinds of data', NONE | F.DATA_BOOL | F.TRIGGER, 0, 0, 1, [1], []],
      ['no action', NONE, 0, 0, 1, [], []],
      ['two actions', NONE | F.MASK | F.UNMASK, 0, 0, 1, [], []],
      ['an unknown flag', NONE | F.TRIGGER | 0x40, 0, 0, 1, [], []],
      ['no such index', EVENT, 5, 0, 1, [], [fd]],
      ['an index without vectors', EVENT, 3, 0, 1, [], [fd]],
      ['an index far away', EVENT, 0xffff_ffff, 0, 1, [], [fd]],
      ['a vector past the end', EVENT, 2, 16, 1, [], [fd]],
      ['vectors over the end', EVENT, 2, 15, 2, [], [fd, fd]],
      ['a start that wraps', EVENT, 2, 0xffff_ffff, 2, [], [fd, fd]],
      ['a huge count', NONE | F.TRIGGER, 2, 0, 0xffff_ffff, [], []],
      ['a huge count of events', EVENT, 2, 0, 0xffff_ffff, [], [fd]],
      ['count 0 with events', EVENT, 2, 0, 0, [], []],
      ['count 0 to mask', NONE | F.MASK, 0, 0, 0, [], []],
      ['MSI-X cannot be masked', NONE | F.MASK, 2, 0, 1, [], []],
      ['an index without eventfds', EVENT, 4, 0, 1, [], [fd]],
      ['too few descriptors', EVENT, 2, 0, 3, [], [fd, fd]],
      ['too many', EVENT, 2, 0, 1, [], [fd, fd]],
      ['one that is no eventfd', EVENT, 2, 0, 1, [], [file]],
      ['one of several that is none', EVENT, 2, 0, 3, [], [fd, file, fd]],
      ['descriptors where none belong', NONE | F.TRIGGER, 2, 0, 1, [], [fd]],
      ['too few bools', F.DATA_BOOL | F.TRIGGER, 2, 0, 4, [1, 1, 1], []],
    ];
    for (const [name, flags, index, start, count, bools, fds] of cases) {
      t.equal(set(rig, flags, index, start, count, bools, fds), E.INVAL, name);
      t.equal(openFds(), held + 2, `${name}: nothing is kept`);
    }
    t.equal(
      rig.exchange(message(1, Command.DEVICE_SET_IRQS, [...u32(19), ...u32(NONE | F.TRIGGER), ...u32(0), ...u32(0), ...u32(0)]))[0]?.errno,
      E.INVAL,
      'argsz',
    );
    t.equal(set(rig, NONE | F.TRIGGER, 4, 0, 1), 0, 'a vector without a trigger may be raised');
    rig.close();
    closeFd(fd);
    closeFd(file);
  });
}

t.test('an eventfd whose counter is full does not stop the server', async (t) => {
  const rig = ready('socket');
  const fd = eventfd();
  t.equal(set(rig, EVENT, 1, 0, 1, [], [fd]), 0);
  // The largest value that it holds.
  const { libcSyscalls } = await import('../../src/native/libc.js');
  libcSyscalls.write(fd, Uint8Array.from([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
  t.equal(rig.device.irqs.trigger(1, 0), true);
  rig.close();
  closeFd(fd);
});
