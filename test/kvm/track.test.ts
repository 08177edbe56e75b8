/** Page track on the real /dev/kvm: read-only slots, their splits and merges, the dirty log. */
import t from 'tap';
import { KVM_IOCTL, KVM_STRUCT } from '../../src/backends/kvm/abi.js';
import { type Gfn, Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import { NULL_GVT_OPS, Status } from '../../src/core/gvt-ops.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { refused } from '../core/expect.js';
import { Random } from '../core/random.js';
import { FaultySyscalls } from '../native/faulty-syscalls.js';
import { attach, bootAgent, describe, dword, END_PORT, MIB, noKvm, runBytes, SMALL_RAM, setup } from './support.js';

const skip = noKvm;
const FRAME = 0x20;
const PAGE = FRAME * PAGE_SIZE;
/** out END_PORT, al; hlt */
const END = [0xe6, END_PORT, 0xf4];

t.test('a tracked page: reads and code run freely, each write is reported after it is in memory', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const memoryAtReport: number[] = [];
  const lines: string[] = [];
  const agent = new GuestAgent(machine, (request) => {
    lines.push(`${describe(request)} of ${request.vgpu}`);
    memoryAtReport.push(dword(handle, PAGE));
  });
  agent.boot();
  handle.enablePageTrack(FRAME as Gfn);
  t.equal(agent.read(PAGE, 4), 0, 'a load does not exit');
  t.same(lines, []);
  agent.write(PAGE, 4, 0x1234_5678);
  agent.write(PAGE + 1, 1, 0xff);
  agent.write64(PAGE + 8, 0x1111_1111, 0x2222_2222);
  agent.write(PAGE + 4095, 1, 0x99);
  t.same(lines, [
    'wp w4 0x20000 = 0x12345678 of 1',
    'wp w1 0x20001 = 0xff of 1',
    'wp w8 0x20008 = 0x22222222_11111111 of 1',
    'wp w1 0x20fff = 0x99 of 1',
  ]);
  t.same(memoryAtReport.slice(0, 2), [0x1234_5678, 0x1234_ff78], 'stored before it is reported');
  t.equal(agent.read(PAGE, 4), 0x1234_ff78, 'the guest reads it back');
  t.equal(agent.read(PAGE + 4092, 4), 0x9900_0000);
  lines.length = 0;
  agent.write(PAGE - 4, 4, 1);
  agent.write(PAGE + PAGE_SIZE, 4, 1);
  t.same(lines, [], 'its neighbours are not tracked');
  const wp = machine.exitCounts().wp;
  t.equal(wp, 4);
  handle.writeGpa(Gpa(PAGE), Uint8Array.of(1, 2, 3, 4));
  t.same(lines, [], 'write_gpa is not reported');
  handle.disablePageTrack(FRAME as Gfn);
  agent.write(PAGE, 4, 5);
  t.same(lines, []);
  t.equal(dword(handle, PAGE), 5);
  backend.close();
});

t.test('stores that cross into, out of and between tracked pages', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const { agent, seen } = bootAgent(machine);
  handle.enablePageTrack(FRAME as Gfn);
  const bytes = new Uint8Array(16);
  /** Bytes of tracked frames that the reports name, by address. */
  const reported = (): Map<number, number> => {
    const map = new Map<number, number>();
    for (const line of seen.splice(0)) {
      const [, size, at, high, low] = /^wp w(\d) 0x(\w+) = 0x(?:(\w+)_)?(\w+)$/.exec(line) ?? [];
      if (size === undefined) t.fail(`not a write report: ${line}`);
      const value = new DataView(new ArrayBuffer(8));
      value.setUint32(0, Number.parseInt(low ?? '0', 16), true);
      value.setUint32(4, Number.parseInt(high ?? '0', 16), true);
      for (let i = 0; i < Number(size); i++) map.set(Number.parseInt(at ?? '0', 16) + i, value.getUint8(i));
    }
    return map;
  };
  const store = (at: number, size: 2 | 4 | 8): Uint8Array => {
    handle.writeGpa(Gpa(at - 4), new Uint8Array(16));
    if (size === 8) agent.write64(at, 0x4433_2211, 0x8877_6655);
    else agent.write(at, size, 0x4433_2211);
    handle.readGpa(Gpa(at - 4), bytes);
    return bytes;
  };
  const check = (from: number, frames: readonly number[]): void => {
    for (const size of [2, 4, 8] as const)
      for (let inFirst = 1; inFirst < size; inFirst++) {
        const at = from - inFirst;
        const written = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88].slice(0, size);
        const expected = new Uint8Array(16);
        expected.set(written, 4);
        t.same(store(at, size), expected, `memory after ${size} bytes at ${at.toString(16)}`);
        const inTracked = written.map((byte, i) => [at + i, byte] as const).filter(([gpa]) => frames.includes(Math.floor(gpa / PAGE_SIZE)));
        t.same(reported(), new Map(inTracked), `reports of ${size} bytes at ${at.toString(16)}`);
      }
  };
  check(PAGE, [FRAME]);
  check(PAGE + PAGE_SIZE, [FRAME]);
  handle.enablePageTrack((FRAME + 1) as Gfn);
  check(PAGE + PAGE_SIZE, [FRAME, FRAME + 1]);
  backend.close();
});

t.test('locked and read-modify-write instructions on a tracked page', { skip }, async (t) => {
  const { backend, machine, handle } = setup({ ram: SMALL_RAM });
  handle.enablePageTrack(8 as Gfn);
  const seen = runBytes(machine, [
    ...[0xb8, 0x05, 0x00], //                         mov ax, 5
    ...[0xa3, 0x00, 0x80], //                         mov [0x8000], ax
    ...[0xf0, 0x0f, 0xc1, 0x06, 0x00, 0x80], //       lock xadd [0x8000], ax
    ...[0x87, 0x06, 0x02, 0x80], //                   xchg [0x8002], ax
    ...[0xf0, 0xff, 0x06, 0x00, 0x80], //             lock inc word [0x8000]
    ...[0x80, 0x0e, 0x01, 0x80, 0x80], //             or byte [0x8001], 0x80
    ...[0xb8, 0x00, 0x00], //                         mov ax, 0
    ...[0xf0, 0x0f, 0xb1, 0x0e, 0x00, 0x80], //       lock cmpxchg [0x8000], cx: not equal
    ...[0xe7, 0x10], //                               out 0x10, ax
    ...END,
  ]);
  t.equal(seen.at(-1), 'pio w2 0x10 = 0x800b', 'cmpxchg loaded the word');
  t.equal(dword(handle, 0x8000), 0x0005_800b, '5 + 5 + 1, top bit set; 5 exchanged');
  const writes = seen.filter((line) => line.startsWith('wp'));
  t.ok(writes.length >= 5, `${writes.length} writes reported`);
  t.ok(
    writes.every((line) => /^wp w[12] 0x800[0-3] /.test(line)),
    writes.join(', '),
  );
  backend.close();
});

t.test('two vGPUs on one VM track the same frame', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const second = attach(backend, machine, 2, 0x18);
  const { agent, seen } = bootAgent(machine);
  handle.enablePageTrack(FRAME as Gfn);
  second.enablePageTrack(FRAME as Gfn);
  handle.disablePageTrack(FRAME as Gfn);
  agent.write(PAGE, 4, 1);
  t.same(seen.splice(0), ['wp w4 0x20000 = 0x1'], 'still protected');
  second.detachVgpu();
  agent.write(PAGE, 4, 2);
  t.same(seen, [], 'detach took the protection away');
  t.equal(machine.slots.count, 1);
  backend.close();
});

t.test('level sync: the dirty log names the tracked frames that the guest wrote', { skip }, async (t) => {
  const reports: [number, number][] = [];
  const pageWritten = (vgpu: number, gfn: number): Status => {
    reports.push([vgpu, gfn]);
    return Status.OK;
  };
  const ops = { ...NULL_GVT_OPS, pageWritten };
  const { backend, machine, handle } = setup({ options: { pageTrack: 'sync' }, ops });
  const second = attach(backend, machine, 2, 0x18);
  const { agent, seen } = bootAgent(machine);
  const sync = (): [number, number][] => {
    const counted = handle.syncPageTrack() + second.syncPageTrack();
    t.equal(counted, reports.length, 'the count is what was reported');
    return reports.splice(0).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  };
  agent.write(PAGE, 4, 1);
  handle.enablePageTrack(FRAME as Gfn);
  t.same(sync(), [], 'written before it was tracked');
  agent.write(PAGE, 4, 2);
  agent.write(PAGE + 64, 4, 2);
  agent.write(PAGE + PAGE_SIZE, 4, 2);
  t.same(sync(), [[1, FRAME]], 'once, and only the tracked frame');
  t.same(sync(), [], 'the log was cleared');
  agent.read(PAGE, 4);
  t.same(sync(), [], 'a load is no write');
  agent.write(PAGE, 4, 3);
  second.enablePageTrack((FRAME + 1) as Gfn);
  agent.write(PAGE + PAGE_SIZE, 4, 3);
  second.enablePageTrack(FRAME as Gfn);
  t.same(
    sync(),
    [
      [1, FRAME],
      [2, FRAME + 1],
    ],
    'a frame tracked later takes no report away',
  );
  agent.write(PAGE, 4, 4);
  t.same(
    sync(),
    [
      [1, FRAME],
      [2, FRAME],
    ],
    'both track it',
  );
  agent.write(PAGE, 4, 5);
  handle.disablePageTrack(FRAME as Gfn);
  t.same(sync(), [[2, FRAME]], 'untracked before the sync');
  handle.enablePageTrack(FRAME as Gfn);
  t.same(sync(), [], 'and tracked again: the old write is not its own');
  agent.write(PAGE - 1, 4, 0x1122_3344);
  t.same(
    sync(),
    [
      [1, FRAME],
      [2, FRAME],
    ],
    'a store that crosses into it',
  );
  t.same(seen, [], 'no exit in all of this');
  backend.close();
});

/** The VM's memory slots as the kernel was told, from the ioctls that went by. */
class SlotWatch extends FaultySyscalls {
  readonly slots = new Map<number, { gpa: number; size: number; hva: number; flags: number }>();

  override ioctlBuffer(fd: number, request: number, buffer: Uint8Array): number {
    const result = super.ioctlBuffer(fd, request, buffer);
    if (request !== KVM_IOCTL.KVM_SET_USER_MEMORY_REGION || result < 0) return result;
    const { slot, flags, guest_phys_addr, memory_size, userspace_addr } = KVM_STRUCT.kvm_userspace_memory_region;
    const view = new DataView(buffer.buffer, buffer.byteOffset);
    const id = view.getUint32(slot, true);
    const size = Number(view.getBigUint64(memory_size, true));
    if (size === 0) this.slots.delete(id);
    else
      this.slots.set(id, {
        gpa: Number(view.getBigUint64(guest_phys_addr, true)),
        size,
        hva: Number(view.getBigUint64(userspace_addr, true)),
        flags: view.getUint32(flags, true),
      });
    return result;
  }

  /** The slots in ascending order of address. */
  sorted(): { gpa: number; size: number; hva: number; flags: number }[] {
    return [...this.slots.values()].sort((a, b) => a.gpa - b.gpa);
  }
}

t.test('slots split and merge: in any order they end as they began', { skip }, async (t) => {
  const watch = new SlotWatch(libcSyscalls);
  const ram = [
    { gpa: 0, size: MIB },
    { gpa: MIB, size: 0x4000 },
    { gpa: 4 * MIB, size: 0x8000 },
  ];
  const { backend, machine, handle } = setup({ ram, sys: watch });
  const original = watch.sorted();
  t.equal(original.length, 3);
  const ends = [0, 1, 2, 254, 255, 256, 257, 258, 259, 1024, 1025, 1030, 1031];
  const random = new Random(0x7ac);
  const tracked = new Set<number>();
  const check = (what: string): void => {
    const now = watch.sorted();
    const gone = original.filter(({ gpa, size, hva }) => {
      let at = gpa;
      for (const slot of now) if (slot.gpa === at && slot.gpa < gpa + size && slot.hva - hva === slot.gpa - gpa) at += slot.size;
      return at !== gpa + size;
    });
    if (gone.length > 0) t.fail(`${what}: RAM is not covered, or by other memory: ${JSON.stringify(now)}`);
    const readOnly = now
      .filter(({ flags }) => flags === 2)
      .flatMap(({ gpa, size }) => Array.from({ length: size / PAGE_SIZE }, (_, i) => gpa / PAGE_SIZE + i));
    if (String(readOnly) !== String([...tracked].sort((a, b) => a - b)))
      t.fail(`${what}: read-only are ${readOnly}, tracked ${[...tracked]}`);
    const joined = now.filter((slot, i) => {
      const before = now[i - 1];
      const sameRegion = original.some(({ gpa, size }) => before !== undefined && before.gpa >= gpa && slot.gpa < gpa + size);
      return sameRegion && slot.flags === 0 && before?.flags === 0;
    });
    if (joined.length > 0) t.fail(`${what}: writable neighbours were not joined: ${JSON.stringify(now)}`);
    if (machine.slots.count !== now.length) t.fail(`${what}: ${machine.slots.count} slots counted, ${now.length} exist`);
  };
  for (let step = 0; step < 150; step++) {
    const gfn = random.below(2) === 0 ? random.pick(ends) : random.below(40);
    if (random.below(5) < 3) {
      handle.enablePageTrack(gfn as Gfn);
      tracked.add(gfn);
    } else {
      const victim = tracked.size > 0 && random.below(3) > 0 ? random.pick([...tracked]) : gfn;
      handle.disablePageTrack(victim as Gfn);
      tracked.delete(victim);
    }
    check(`step ${step}`);
  }
  t.ok(tracked.size > 10, `${tracked.size} frames tracked, ${watch.slots.size} slots`);
  for (const gfn of random.shuffled([...tracked])) {
    handle.disablePageTrack(gfn as Gfn);
    tracked.delete(gfn);
    check(`untracking ${gfn}`);
  }
  const shape = ({ gpa, size, hva, flags }: (typeof original)[0]): string => `${gpa}+${size}@${hva}:${flags}`;
  t.same(watch.sorted().map(shape), original.map(shape), 'the original slots');
  refused(t, 'NOT_RAM', () => handle.enablePageTrack(260 as Gfn), 'a hole');
  refused(t, 'NOT_RAM', () => handle.enablePageTrack(1032 as Gfn), 'one past the last frame');
  for (const gfn of ends) handle.enablePageTrack(gfn as Gfn);
  handle.detachVgpu();
  t.same(watch.sorted().map(shape), original.map(shape), 'detach merges too');
  t.ok(
    [...watch.slots.keys()].every((id) => id < 64),
    'slot numbers are used again',
  );
  backend.close();
});

t.test('tracking does not disturb what the guest has in memory', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const { agent, seen } = bootAgent(machine);
  const random = new Random(99);
  const model = new Map<number, number>();
  for (let step = 0; step < 120; step++) {
    const gfn = FRAME + random.below(6);
    const action = random.below(4);
    if (action === 0) handle.enablePageTrack(gfn as Gfn);
    else if (action === 1) handle.disablePageTrack(gfn as Gfn);
    else {
      const at = gfn * PAGE_SIZE + random.below(4) * 4;
      const value = random.word();
      agent.write(at, 4, value);
      model.set(at, value);
      const reported = seen.splice(0).length === 1;
      if (reported !== handle.tracks(gfn)) t.fail(`step ${step}: reported ${reported}, tracked ${handle.tracks(gfn)}`);
    }
  }
  for (const [at, value] of model) if (agent.read(at, 4) !== value) t.fail(`0x${at.toString(16)} lost its value`);
  t.ok(model.size > 15, `${model.size} dwords kept`);
  backend.close();
});

t.test('level sync: logging stops with the last tracked frame, also by detach', { skip }, async (t) => {
  const watch = new SlotWatch(libcSyscalls);
  const { backend, machine, handle } = setup({ options: { pageTrack: 'sync' }, sys: watch });
  const flags = (): number[] => watch.sorted().map((slot) => slot.flags);
  handle.enablePageTrack(5 as Gfn);
  handle.enablePageTrack(6 as Gfn);
  t.same(flags(), [1]);
  handle.disablePageTrack(5 as Gfn);
  t.same(flags(), [1], 'one is left');
  handle.disablePageTrack(6 as Gfn);
  t.same(flags(), [0]);
  for (const gfn of [5, 6, 7]) handle.enablePageTrack(gfn as Gfn);
  handle.detachVgpu();
  t.same(flags(), [0], 'detach with several frames');
  const again = attach(backend, machine);
  again.enablePageTrack(5 as Gfn);
  again.detachVgpu();
  t.same(flags(), [0], 'detach with one frame');
  backend.close();
});
