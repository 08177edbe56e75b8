/** How guest accesses arrive and are answered: MMIO, ports, PCI configuration, RAM. */
import { bdf, Gpa, PAGE_SIZE } from '../../core/addresses.js';
import { type CaseSpec, type ConformanceCase, group, SIZES, type Size } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal, ok, pattern, sameBytes, word } from '../expect.js';
import { FREE_PORT, HOLE, lastByte, RAM_ISLAND, RAM_NEXT, SCRATCH, SECOND_BDF, VGPU_BDF } from '../layout.js';

const BAR = HOLE.gpa;
const LOW = 0x8765_4321;
const HIGH = 0xfedc_ba98;
const mask = (size: number): number => 2 ** (8 * Math.min(size, 4)) - 1;
/** The low half of LOW as an access of this size carries it. */
const low = (size: Size): number => (LOW & mask(size)) >>> 0;

const trapBar = (ctx: CaseContext): void => ctx.trapBar(BAR);

const mmio: CaseSpec[] = [
  ...SIZES.flatMap((size) =>
    ([0, 0x2000, 0xf_fff8] as const).flatMap((offset): CaseSpec[] => [
      {
        name: `mmio-read-size-${size}-at-0x${offset.toString(16)}`,
        rule: 'A guest load of 1, 2, 4 or 8 bytes is one read of that size, and the guest receives the value given.',
        run(ctx) {
          trapBar(ctx);
          ctx.recorder.answer = { low: LOW, high: HIGH };
          const value = size === 8 ? ctx.agent.read64(BAR + offset) : { lo: ctx.agent.read(BAR + offset, size), hi: 0 };
          ctx.recorder.expectOne({ kind: 'mmio', write: false, vgpu: 1, address: BAR + offset, size });
          equal(value.lo, low(size), 'value that the guest received');
          if (size === 8) equal(value.hi, HIGH, 'high half that the guest received');
        },
      },
      {
        name: `mmio-write-size-${size}-at-0x${offset.toString(16)}`,
        rule: 'A guest store of 1, 2, 4 or 8 bytes is one write of that size with the value stored.',
        run(ctx) {
          trapBar(ctx);
          if (size === 8) ctx.agent.write64(BAR + offset, LOW, HIGH);
          else ctx.agent.write(BAR + offset, size, LOW);
          ctx.recorder.expectOne({
            kind: 'mmio',
            write: true,
            vgpu: 1,
            address: BAR + offset,
            size,
            low: low(size),
            high: size === 8 ? HIGH : 0,
          });
        },
      },
    ]),
  ),
  {
    name: 'mmio-write-high-bytes-zero',
    rule: 'Bytes beyond the size of a write are zero, also after a wider access.',
    run(ctx) {
      trapBar(ctx);
      for (const size of [1, 2, 4] as const) {
        ctx.agent.write64(BAR, 0xffff_ffff, 0xffff_ffff);
        ctx.recorder.clear();
        ctx.agent.write(BAR, size, LOW);
        ctx.recorder.expectOne({ size, low: low(size), high: 0 });
      }
    },
  },
  {
    name: 'mmio-in-program-order',
    rule: 'Accesses arrive in the order of the guest program, each before the next instruction.',
    run(ctx) {
      trapBar(ctx);
      ctx.agent.stream(BAR + 0x100, [10, 20, 30, 40]);
      ctx.agent.read(BAR + 0x104, 4);
      const order = ctx.recorder.accesses.map((access) => `${access.write ? 'w' : 'r'}${access.address - BAR}`).join(' ');
      equal(order, 'w256 w260 w264 w268 r260', 'order');
    },
  },
  {
    name: 'mmio-changing-answers',
    rule: 'Each read receives the answer that was given to it, not an earlier one.',
    run(ctx) {
      trapBar(ctx);
      for (const value of [0, 0xffff_ffff, 1, 0x8000_0000]) {
        ctx.recorder.answer = { low: value, high: 0 };
        equal(ctx.agent.read(BAR, 4), value, 'value that the guest received');
      }
    },
  },
  ...SIZES.map(
    (size): CaseSpec => ({
      name: `unclaimed-read-size-${size}`,
      needs: ['wholeBus'],
      rule: 'A load from an address without RAM that no vGPU owns is delivered for no vGPU and reads all ones.',
      run(ctx) {
        trapBar(ctx);
        const at = BAR + 0x80_0000;
        const value = size === 8 ? ctx.agent.read64(at) : { lo: ctx.agent.read(at, size), hi: 0xffff_ffff };
        ctx.recorder.expectOne({ kind: 'mmio', write: false, vgpu: 0, address: at, size });
        equal(value.lo, mask(size), 'value that the guest received');
        equal(value.hi, 0xffff_ffff, 'high half that the guest received');
      },
    }),
  ),
  {
    name: 'unclaimed-write',
    needs: ['wholeBus'],
    rule: 'A store to an address without RAM that no vGPU owns is delivered for no vGPU and changes no memory.',
    run(ctx) {
      trapBar(ctx);
      ctx.agent.write(lastByte(RAM_NEXT) + 1, 4, LOW);
      ctx.recorder.clear();
      ctx.agent.write(BAR + 0x80_0000, 4, LOW);
      ctx.recorder.expectOne({ kind: 'mmio', write: true, vgpu: 0, address: BAR + 0x80_0000, size: 4 });
      ok(
        ctx.peek(lastByte(RAM_NEXT) - 15, 16).every((byte) => byte === 0),
        'the end of RAM changed',
      );
    },
  },
  {
    name: 'exits-are-counted',
    rule: 'The exit counters of the machine grow with each access.',
    run(ctx) {
      trapBar(ctx);
      const total = (): number => Object.values(ctx.machine.exitCounts()).reduce((sum, count) => sum + count, 0);
      ctx.agent.read(BAR, 4);
      const before = total();
      ctx.agent.burstRead(BAR, 4, 50);
      ok(total() - before >= 50, `50 loads counted ${total() - before} exits`);
      equal(ctx.recorder.accesses.length, 51, 'loads delivered');
    },
  },
];

const ports: CaseSpec[] = ([1, 2, 4] as const).flatMap((size): CaseSpec[] => [
  {
    name: `port-in-size-${size}`,
    rule: 'IN of 1, 2 or 4 bytes is one port read of that size, and the guest receives the value given.',
    run(ctx) {
      ok(ctx.handle.attached, 'the vGPU is not attached');
      ctx.recorder.answer = { low: LOW, high: HIGH };
      equal(ctx.agent.portIn(FREE_PORT, size), low(size), 'value that the guest received');
      ctx.recorder.expectOne({ kind: 'pio', write: false, address: FREE_PORT, size, vgpu: 0 });
    },
  },
  {
    name: `port-out-size-${size}`,
    rule: 'OUT of 1, 2 or 4 bytes is one port write of that size with the value, high bytes zero.',
    run(ctx) {
      ctx.agent.portOut(FREE_PORT + 8, 4, 0xffff_ffff);
      ctx.recorder.clear();
      ctx.agent.portOut(FREE_PORT, size, LOW);
      ctx.recorder.expectOne({ kind: 'pio', write: true, address: FREE_PORT, size, low: low(size), high: 0 });
    },
  },
]);

/** Every naturally placed access of a configuration dword. */
const PCI_ACCESSES: readonly (readonly [1 | 2 | 4, number])[] = [
  [1, 0],
  [1, 1],
  [1, 2],
  [1, 3],
  [2, 0],
  [2, 2],
  [4, 0],
];

const pci: CaseSpec[] = [
  ...PCI_ACCESSES.flatMap(([size, offset]): CaseSpec[] => [
    {
      name: `pci-read-size-${size}-at-${offset}`,
      rule: 'A read of the data window 0xCFC-0xCFF is one configuration read of the register that 0xCF8 selects.',
      run(ctx) {
        ok(ctx.handle.attached, 'the vGPU is not attached');
        ctx.recorder.answer = { low: LOW, high: HIGH };
        equal(ctx.agent.pciRead(VGPU_BDF, 0x40 + offset, size), low(size), 'value that the guest received');
        ctx.recorder.expectOne({ kind: 'pci', write: false, vgpu: 1, bdf: VGPU_BDF, address: 0x40 + offset, size });
      },
    },
    {
      name: `pci-write-size-${size}-at-${offset}`,
      rule: 'A write to the data window is one configuration write of the register that 0xCF8 selects, high bytes zero.',
      run(ctx) {
        ok(ctx.handle.attached, 'the vGPU is not attached');
        ctx.agent.pciWrite(VGPU_BDF, 0x3c + offset, size, LOW);
        ctx.recorder.expectOne({ kind: 'pci', write: true, vgpu: 1, bdf: VGPU_BDF, address: 0x3c + offset, size, low: low(size), high: 0 });
      },
    },
  ]),
  {
    name: 'pci-last-register',
    rule: 'Registers 0 and 252 are reached.',
    run(ctx) {
      ok(ctx.handle.attached, 'the vGPU is not attached');
      ctx.agent.pciRead(VGPU_BDF, 0, 4);
      ctx.agent.pciRead(VGPU_BDF, 252, 4);
      equal(
        ctx.recorder
          .of('pci')
          .map(({ address, vgpu }) => `${address}:${vgpu}`)
          .join(),
        '0:1,252:1',
        'registers and owners',
      );
    },
  },
  ...([1, 2, 4] as const).map(
    (size): CaseSpec => ({
      name: `pci-disabled-size-${size}`,
      rule: 'With bit 31 of 0xCF8 clear the data window reads all ones and nothing is delivered.',
      run(ctx) {
        ok(ctx.handle.attached, 'the vGPU is not attached');
        ctx.agent.portOut(0xcf8, 4, VGPU_BDF << 8);
        equal(ctx.agent.portIn(0xcfc, size), mask(size), 'value that the guest received');
        ctx.agent.portOut(0xcfc, size, 0);
        ctx.recorder.expectNone('configuration cycles are disabled');
      },
    }),
  ),
  {
    name: 'pci-address-register',
    needs: ['wholeBus'],
    rule: '0xCF8 is a 4-byte register that reads back, and is delivered to nobody.',
    run(ctx) {
      const selected = 0x8000_0000 + VGPU_BDF * 256 + 0x10;
      ctx.agent.portOut(0xcf8, 4, selected);
      equal(ctx.agent.portIn(0xcf8, 4), selected, 'value read back');
      ctx.recorder.expectNone('the address register is the backend’s own');
    },
  },
  {
    name: 'pci-absent-function',
    needs: ['wholeBus'],
    rule: 'A configuration access to a function without a vGPU is delivered for no vGPU and reads all ones.',
    run(ctx) {
      ok(ctx.handle.attached, 'the vGPU is not attached');
      equal(ctx.agent.pciRead(bdf(0, 2, 1), 0, 4), 0xffff_ffff, 'value that the guest received');
      ctx.recorder.expectOne({ kind: 'pci', vgpu: 0, bdf: bdf(0, 2, 1), address: 0 });
    },
  },
  {
    name: 'pci-two-vgpus',
    rule: 'Two vGPUs of a VM receive exactly the accesses to their own functions.',
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      ok(ctx.handle.attached && second.attached, 'a vGPU is not attached');
      ctx.agent.pciRead(SECOND_BDF, 0, 2);
      ctx.recorder.expectOne({ kind: 'pci', vgpu: 2, bdf: SECOND_BDF });
      ctx.recorder.clear();
      ctx.agent.pciRead(VGPU_BDF, 0, 2);
      ctx.recorder.expectOne({ kind: 'pci', vgpu: 1, bdf: VGPU_BDF });
    },
  },
  {
    name: 'pci-highest-function',
    needs: ['wholeBus'],
    rule: 'Bus, device and function all take part: ff:1f.7 is reached and is not 00:02.0.',
    run(ctx) {
      const last = ctx.attach({ id: 9, bdf: bdf(0xff, 0x1f, 7) });
      ok(last.attached, 'the vGPU is not attached');
      ctx.agent.pciRead(bdf(0xff, 0x1f, 7), 4, 4);
      ctx.recorder.expectOne({ kind: 'pci', vgpu: 9, bdf: 0xffff, address: 4 });
    },
  },
];

const ram: CaseSpec[] = [
  ...SIZES.flatMap((size) =>
    (
      [
        ['inside-page', SCRATCH + 0x20],
        ['across-pages', SCRATCH + PAGE_SIZE - 1],
        ['across-regions', RAM_NEXT.gpa - (size > 1 ? size / 2 : 1)],
        ['end-of-ram', lastByte(RAM_ISLAND) + 1 - size],
      ] as const
    ).map(
      ([name, gpa]): CaseSpec => ({
        name: `ram-size-${size}-${name}`,
        rule: 'read_gpa sees what the guest stored, the guest loads what write_gpa wrote, and neither is delivered as an access.',
        operations: ['read_gpa', 'write_gpa'],
        run(ctx) {
          const stored = new Uint8Array(Uint32Array.of(LOW, HIGH).buffer).slice(0, size);
          if (size === 8) ctx.agent.write64(gpa, LOW, HIGH);
          else ctx.agent.write(gpa, size, LOW);
          sameBytes(ctx.peek(gpa, size), stored, 'what the guest stored');
          const written = pattern(8, 1).slice(0, size);
          ctx.poke(gpa, written);
          const loaded = size === 8 ? ctx.agent.read64(gpa) : { lo: ctx.agent.read(gpa, size), hi: 0 };
          equal(loaded.lo, word(written, Math.min(size, 4)), 'what the guest loads');
          if (size === 8) equal(loaded.hi, word(written, 4, 4), 'high half that the guest loads');
          ctx.recorder.expectNone('RAM accesses do not exit');
        },
      }),
    ),
  ),
  {
    name: 'ram-host-write-reaches-spinning-guest',
    rule: 'A guest that spins on a dword without exits sees what write_gpa puts there.',
    operations: ['write_gpa'],
    run(ctx) {
      const { handle } = ctx;
      let idle: (() => void) | undefined;
      const agent = ctx.bootAgent(ctx.machine, { onIdle: () => idle?.() });
      let slices = 0;
      idle = () => {
        if (slices++ === 1) handle.writeGpa(Gpa(SCRATCH), Uint8Array.of(0x78, 0x56, 0x34, 0x12));
      };
      agent.poll(SCRATCH, 0xffff_ffff, 0x1234_5678);
      ok(slices >= 2, 'the guest did not spin');
      ctx.recorder.expectNone('the guest spun in RAM');
    },
  },
];

export const ACCESS_CASES: readonly ConformanceCase[] = [
  ...group('access', { operations: ['set_trap_area'], needsAny: ['setTrapArea', 'barAccess'], guest: true }, mmio),
  ...group('access', { operations: ['attach_vgpu'], guest: true }, [...ports, ...pci, ...ram]),
];
