/** VMs that a backend creates itself, and the source of their requests. */
import { Gpa, PAGE_SIZE } from '../../core/addresses.js';
import type { RamRegion } from '../../core/guest-ram.js';
import { IoRequest } from '../../core/io-request.js';
import { AGENT_COMMANDS, AGENT_GPA, AGENT_IDT_GPA, AGENT_IMAGE } from '../../guest/agent.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal, ok, refuses } from '../expect.js';
import { RAM_LAYOUT, SCRATCH } from '../layout.js';

/** Guest programs of a few bytes, entered in real mode. */
const SPIN = Uint8Array.of(0xeb, 0xfe); // jmp $
const HALT = Uint8Array.of(0xfa, 0xf4, 0xeb, 0xfd); // cli; hlt; jmp back to hlt
const IN_FOR_EVER = Uint8Array.of(0xe5, 0x90, 0xeb, 0xfc); // in ax, 0x90; jmp back

/** Makes the agent's next `spin` jump to an undefined instruction (ud2). Its command table ends the image. */
function derail(ctx: CaseContext): void {
  const { agent } = ctx;
  ctx.poke(SCRATCH, Uint8Array.of(0x0f, 0x0b));
  const table = new Uint32Array(Object.keys(AGENT_COMMANDS).length).fill(SCRATCH);
  ctx.poke(AGENT_GPA + AGENT_IMAGE.length - table.byteLength, new Uint8Array(table.buffer));
  equal(agent.commands, 0, 'commands before');
}

const IMAGE_GPA = Gpa(0x8000);

/** RAM layouts that are refused, and how. */
const BAD_LAYOUTS: readonly (readonly [string, 'INVALID_ARGUMENT' | 'OVERLAP', readonly RamRegion[]])[] = [
  ['empty', 'INVALID_ARGUMENT', []],
  ['size-zero', 'INVALID_ARGUMENT', [{ gpa: 0, size: 0 }]],
  ['size-negative', 'INVALID_ARGUMENT', [{ gpa: 0, size: -PAGE_SIZE }]],
  ['size-unaligned', 'INVALID_ARGUMENT', [{ gpa: 0, size: PAGE_SIZE + 1 }]],
  ['size-nan', 'INVALID_ARGUMENT', [{ gpa: 0, size: Number.NaN }]],
  ['gpa-unaligned', 'INVALID_ARGUMENT', [{ gpa: 512, size: PAGE_SIZE }]],
  ['gpa-negative', 'INVALID_ARGUMENT', [{ gpa: -PAGE_SIZE, size: 2 * PAGE_SIZE }]],
  ['passes-2-52', 'INVALID_ARGUMENT', [{ gpa: 2 ** 52 - PAGE_SIZE, size: 2 * PAGE_SIZE }]],
  ['wraps-2-64', 'INVALID_ARGUMENT', [{ gpa: 2 ** 64 - PAGE_SIZE, size: 2 * PAGE_SIZE }]],
  [
    'same-region-twice',
    'OVERLAP',
    [
      { gpa: 0, size: PAGE_SIZE },
      { gpa: 0, size: PAGE_SIZE },
    ],
  ],
  [
    'overlap-by-one-page',
    'OVERLAP',
    [
      { gpa: 2 * PAGE_SIZE, size: PAGE_SIZE },
      { gpa: 0, size: 3 * PAGE_SIZE },
    ],
  ],
];

/** Images that do not fit. */
const BAD_IMAGES: readonly (readonly [string, number, number])[] = [
  ['unaligned', 0x8008, 16],
  ['negative', -16, 16],
  ['nan', Number.NaN, 16],
  ['passes-1-mib', 0xf_fff0, 17],
  ['above-1-mib', 0x10_0000, 16],
];

const creation: CaseSpec[] = [
  ...BAD_LAYOUTS.map(
    ([name, code, ram]): CaseSpec => ({
      name: `layout-${name}`,
      rule: 'A RAM layout that is empty, unaligned, beyond 2^52 or overlapping is refused.',
      run(ctx) {
        ctx.refuses(code, 'create_machine', () => ctx.backend.createMachine({ ram }));
      },
    }),
  ),
  {
    name: 'layout-any-order',
    rule: 'Regions may be given in any order; the machine tells them in ascending order.',
    run(ctx) {
      const { ram } = ctx.createMachine([...RAM_LAYOUT].reverse());
      equal(JSON.stringify(ram.map(({ gpa, size }) => [gpa, size])), JSON.stringify(RAM_LAYOUT.map(({ gpa, size }) => [gpa, size])), 'RAM');
    },
  },
  {
    name: 'smallest',
    needs: ['machine', 'wholeBus'],
    rule: 'One page of RAM is enough for a VM.',
    operations: ['read_gpa'],
    run(ctx) {
      const handle = ctx.attach({ machine: ctx.createMachine([{ gpa: 0, size: PAGE_SIZE }]) });
      ctx.peek(0, PAGE_SIZE, handle);
      ctx.refuses('NOT_RAM', 'read_gpa', () => ctx.peek(PAGE_SIZE, 1, handle), { address: PAGE_SIZE });
    },
  },
  {
    name: 'close-idempotent',
    rule: 'Closing a closed machine does nothing.',
    run(ctx) {
      ctx.machine.close();
      ctx.machine.close();
    },
  },
  ...BAD_IMAGES.map(
    ([name, gpa, length]): CaseSpec => ({
      name: `boot-image-${name}`,
      rule: 'A boot image that is not 16-byte aligned or does not end below 1 MiB is refused as INVALID_ADDRESS.',
      run(ctx) {
        const { requests } = ctx.machine;
        refuses('INVALID_ADDRESS', () => ctx.machine.boot(Gpa(gpa), new Uint8Array(length).fill(0xf4)));
        equal(requests.stopped, false, 'stopped');
      },
    }),
  ),
  {
    name: 'boot-image-not-in-ram',
    needs: ['machine', 'wholeBus'],
    rule: 'A boot image outside RAM is refused as NOT_RAM.',
    run(ctx) {
      const machine = ctx.createMachine([{ gpa: 0, size: 4 * PAGE_SIZE }]);
      refuses('NOT_RAM', () => machine.boot(Gpa(4 * PAGE_SIZE), SPIN));
    },
  },
  {
    name: 'boot-after-close',
    rule: 'A closed machine answers CLOSED to boot.',
    run(ctx) {
      ctx.machine.close();
      refuses('CLOSED', () => ctx.machine.boot(IMAGE_GPA, SPIN));
    },
  },
];

const requests: CaseSpec[] = [
  {
    name: 'image-is-copied',
    rule: 'boot copies the image to its address and changes no memory beside it.',
    run(ctx) {
      ctx.poke(IMAGE_GPA - 1, Uint8Array.of(0x11));
      ctx.poke(IMAGE_GPA + SPIN.length, Uint8Array.of(0x22));
      ctx.machine.boot(IMAGE_GPA, SPIN);
      equal([...ctx.peek(IMAGE_GPA - 1, 4)].join(), [0x11, ...SPIN, 0x22].join(), 'memory around the image');
    },
  },
  ...(
    [
      ['spinning', SPIN],
      ['halted', HALT],
    ] as const
  ).map(
    ([name, image]): CaseSpec => ({
      name: `next-times-out-${name}`,
      rule: 'next() of a guest that makes no access returns nothing when the time is over, and can be called again.',
      run(ctx) {
        const { machine } = ctx;
        machine.boot(IMAGE_GPA, image);
        equal(machine.requests.next(2), undefined, 'request');
        equal(machine.requests.next(0.5), undefined, 'second request');
        equal(machine.requests.stopped, false, 'stopped');
      },
    }),
  ),
  {
    name: 'stop',
    rule: 'After stop() next() returns nothing at once, even without a time limit.',
    run(ctx) {
      ctx.useOwnStopFlags();
      const { machine } = ctx;
      machine.boot(IMAGE_GPA, SPIN);
      machine.requests.stop();
      equal(machine.requests.stopped, true, 'stopped');
      equal(machine.requests.next(), undefined, 'request');
      equal(machine.requests.next(5), undefined, 'second request');
    },
  },
  {
    name: 'stop-by-token',
    rule: 'Setting the flag of the stop token stops the machine as stop() does.',
    run(ctx) {
      ctx.useOwnStopFlags();
      const { machine } = ctx;
      machine.boot(IMAGE_GPA, SPIN);
      Atomics.store(new Int32Array(machine.stopToken.flag), 0, 1);
      equal(machine.requests.stopped, true, 'stopped');
      equal(machine.requests.next(), undefined, 'request');
    },
  },
  {
    name: 'stop-one-of-two',
    rule: 'Stopping one machine does not stop another.',
    run(ctx) {
      ctx.useOwnStopFlags();
      const other = ctx.createMachine();
      ctx.machine.requests.stop();
      equal(other.requests.stopped, false, 'stopped');
      other.boot(IMAGE_GPA, IN_FOR_EVER);
      ok(other.requests.next(1000) !== undefined, 'the other machine delivered nothing');
    },
  },
  {
    name: 'answer-and-go-on',
    rule: 'After complete() the guest goes on to its next access; each is delivered once.',
    run(ctx) {
      const { requests } = ctx.machine;
      ctx.machine.boot(IMAGE_GPA, IN_FOR_EVER);
      for (let i = 0; i < 5; i++) {
        const request = requests.next(1000);
        ok(request !== undefined, `access ${i} was not delivered`);
        equal(`${request.kind} ${request.address} ${request.size} ${request.write}`, '0 144 2 false', 'access');
        request.value[0] = i;
        requests.complete(request);
      }
    },
  },
  {
    name: 'next-while-pending',
    rule: 'next() before the last access was completed is refused, and the access is still there to complete.',
    run(ctx) {
      const { requests } = ctx.machine;
      ctx.machine.boot(IMAGE_GPA, IN_FOR_EVER);
      const request = requests.next(1000);
      ok(request !== undefined, 'the access was not delivered');
      refuses(undefined, () => requests.next(1));
      requests.complete(request);
      ok(requests.next(1000) !== undefined, 'the next access was not delivered');
    },
  },
  {
    name: 'complete-foreign-request',
    rule: 'complete() of what next() did not deliver is refused.',
    run(ctx) {
      const { requests } = ctx.machine;
      ctx.machine.boot(IMAGE_GPA, IN_FOR_EVER);
      refuses(undefined, () => requests.complete(new IoRequest()));
      const request = requests.next(1000);
      ok(request !== undefined, 'the access was not delivered');
      refuses(undefined, () => requests.complete(new IoRequest()));
      requests.complete(request);
      refuses(undefined, () => requests.complete(request));
    },
  },
  {
    name: 'guest-exception',
    rule: 'An exception that the guest handles and reports ends its run as GUEST_FAULT.',
    guest: true,
    run(ctx) {
      derail(ctx);
      refuses('GUEST_FAULT', () => ctx.agent.spin());
    },
  },
  {
    name: 'guest-triple-fault',
    rule: 'A guest that cannot go on, because an exception has no handler, ends as GUEST_FAULT and not as a hang.',
    guest: true,
    run(ctx) {
      derail(ctx);
      ctx.poke(AGENT_IDT_GPA, new Uint8Array(256 * 8));
      refuses('GUEST_FAULT', () => ctx.agent.spin());
    },
  },
];

export const MACHINE_CASES: readonly ConformanceCase[] = group('machine', { operations: [], needs: ['machine'] }, [
  ...creation,
  ...requests,
]);
