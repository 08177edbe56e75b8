/** inject_msi, counted by the guest's own handler. */
// biome-ignore lint/style/noRestrictedImports: an armed message is raised by writing a file descriptor; only Node can.
import { writeSync } from 'node:fs';
import { AGENT_COUNTERS_GPA } from '../../guest/agent.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal, ok } from '../expect.js';
import { MSI_ADDRESS, SCRATCH } from '../layout.js';

/** Messages whose address is outside the window of local APICs. */
const BAD_MESSAGE_ADDRESSES: readonly (readonly [string, number])[] = [
  ['one-before', 0xfedf_ffff],
  ['one-past', 0xfef0_0000],
  ['zero', 0],
  ['ram', SCRATCH],
  ['above-32-bits', 2 ** 32 + MSI_ADDRESS],
  ['negative', MSI_ADDRESS - 2 ** 32],
  ['fraction', MSI_ADDRESS + 0.5],
  ['nan', Number.NaN],
];

/** Data that names no vector. */
const BAD_DATA: readonly (readonly [string, number])[] = [
  ['vector-0', 0],
  ['vector-15', 15],
  ['vector-15-lowest-priority', 0x10f],
  ['vector-15-edge-assert', 0x400f],
  ['17-bits', 0x1_0040],
  ['negative', -1],
  ['fraction', 64.5],
  ['nan', Number.NaN],
];

const cases: CaseSpec[] = [
  ...([1, 2, 17] as const).map(
    (times): CaseSpec => ({
      name: `counted-${times}`,
      rule: 'N messages, each taken before the next is sent, run the guest handler of the vector exactly N times.',
      guest: true,
      run(ctx) {
        const { handle, agent } = ctx;
        for (let i = 1; i <= times; i++) {
          handle.injectMsi(MSI_ADDRESS, 0x51);
          agent.waitInterrupt(0x51, i);
        }
        equal(agent.interruptCount(0x51), times, 'handler runs');
      },
    }),
  ),
  ...([0x20, 0x21, 0x7f, 0xef, 0xfe] as const).map(
    (vector): CaseSpec => ({
      name: `vector-0x${vector.toString(16)}`,
      rule: 'The low byte of the data is the vector, and no other vector is raised.',
      guest: true,
      run(ctx) {
        const { handle, agent } = ctx;
        handle.injectMsi(MSI_ADDRESS, vector);
        agent.waitInterrupt(vector, 1);
        for (const other of [0x20, 0x21, 0x7f, 0xef, 0xfe])
          equal(agent.interruptCount(other), other === vector ? 1 : 0, `count of ${other}`);
      },
    }),
  ),
  {
    name: 'vectors-independent',
    rule: 'Messages of several vectors that are pending together are all delivered, once each.',
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      const vectors = [0x31, 0x62, 0x95, 0xd0];
      for (const vector of vectors) handle.injectMsi(MSI_ADDRESS, vector);
      for (const vector of vectors) agent.waitInterrupt(vector, 1);
      for (const vector of vectors) equal(agent.interruptCount(vector), 1, `count of ${vector}`);
    },
  },
  ...(
    [
      ['lowest-priority', 0x0151],
      ['level-assert-bit', 0x4051],
    ] as const
  ).map(
    ([name, data]): CaseSpec => ({
      name: `delivered-${name}`,
      rule: 'Delivery mode and level bits of the data do not change which vector arrives.',
      guest: true,
      run(ctx) {
        const { handle, agent } = ctx;
        handle.injectMsi(MSI_ADDRESS, data);
        agent.waitInterrupt(0x51, 1);
        equal(agent.interruptCount(0x51), 1, 'handler runs');
      },
    }),
  ),
  {
    name: 'broadcast-destination',
    rule: 'A message to the physical broadcast destination reaches the guest.',
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      handle.injectMsi(0xfeef_f000, 0x52);
      agent.waitInterrupt(0x52, 1);
      equal(agent.interruptCount(0x52), 1, 'handler runs');
    },
  },
  {
    name: 'reaches-a-spinning-guest',
    rule: 'A guest that executes without exits takes the interrupt too.',
    guest: true,
    run(ctx) {
      const { handle } = ctx;
      let idle: (() => void) | undefined;
      const agent = ctx.bootAgent(ctx.machine, { onIdle: () => idle?.() });
      let slices = 0;
      idle = () => {
        if (slices++ === 0) handle.injectMsi(MSI_ADDRESS, 0x53);
        // The guest is let go only by its own handler's count: a guest that never takes the interrupt times out.
        else if (ctx.peek(AGENT_COUNTERS_GPA + 4 * 0x53, 1)[0] === 1) ctx.poke(SCRATCH, Uint8Array.of(1));
      };
      agent.poll(SCRATCH, 1, 1);
      equal(agent.interruptCount(0x53), 1, 'handler runs');
    },
  },
  {
    name: 'wakes-a-halted-guest',
    rule: 'An interrupt that arrives while the guest is halted ends the halt.',
    guest: true,
    run(ctx) {
      const { handle } = ctx;
      let idle: (() => void) | undefined;
      const agent = ctx.bootAgent(ctx.machine, { onIdle: () => idle?.() });
      let slices = 0;
      idle = () => {
        if (slices++ === 2) handle.injectMsi(MSI_ADDRESS, 0x54);
      };
      agent.waitInterrupt(0x54, 1);
      ok(slices > 2, 'the guest did not halt');
      equal(agent.interruptCount(0x54), 1, 'handler runs');
    },
  },
  {
    name: 'no-access-reported',
    rule: 'Injecting a message delivers no guest access to the device model.',
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      handle.injectMsi(MSI_ADDRESS, 0x55);
      agent.waitInterrupt(0x55, 1);
      ctx.recorder.expectNone('an interrupt is no access');
    },
  },
  {
    name: 'vector-16-accepted',
    rule: 'Vector 16 is the first valid one.',
    run(ctx) {
      ctx.handle.injectMsi(MSI_ADDRESS, 16);
    },
  },
  {
    name: 'nmi-needs-no-vector',
    rule: 'In delivery modes other than fixed and lowest priority the vector is not looked at.',
    run(ctx) {
      ctx.handle.injectMsi(MSI_ADDRESS, 0x400);
    },
  },
  ...BAD_MESSAGE_ADDRESSES.map(
    ([name, address]): CaseSpec => ({
      name: `address-${name}`,
      rule: 'A message address outside 0xfee00000-0xfeefffff answers BAD_MSI and names the address.',
      run(ctx) {
        ctx.refuses('BAD_MSI', 'inject_msi', () => ctx.handle.injectMsi(address, 0x40), { address });
      },
    }),
  ),
  ...BAD_DATA.map(
    ([name, data]): CaseSpec => ({
      name: `data-${name}`,
      rule: 'Message data above 16 bits or with a reserved vector answers BAD_MSI.',
      run(ctx) {
        ctx.refuses('BAD_MSI', 'inject_msi', () => ctx.handle.injectMsi(MSI_ADDRESS, data));
      },
    }),
  ),
  {
    name: 'refused-message-not-delivered',
    rule: 'A refused message raises nothing in the guest.',
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      ctx.refuses('BAD_MSI', 'inject_msi', () => handle.injectMsi(0xfef0_0000, 0x56));
      ctx.refuses('BAD_MSI', 'inject_msi', () => handle.injectMsi(MSI_ADDRESS, 0x1_0056));
      handle.injectMsi(MSI_ADDRESS, 0x57);
      agent.waitInterrupt(0x57, 1);
      equal(agent.interruptCount(0x56), 0, 'handler runs of the refused vector');
    },
  },
  {
    name: 'armed-by-call',
    rule: 'A message that was armed is delivered once for each inject_msi, and another message still works.',
    needs: ['msiEventfd'],
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      handle.armMsi(MSI_ADDRESS, 0x58);
      for (let i = 1; i <= 3; i++) {
        handle.injectMsi(MSI_ADDRESS, 0x58);
        agent.waitInterrupt(0x58, i);
      }
      handle.injectMsi(MSI_ADDRESS, 0x59);
      agent.waitInterrupt(0x59, 1);
      equal(agent.interruptCount(0x58), 3, 'handler runs of the armed vector');
    },
  },
  {
    name: 'armed-by-event',
    rule: 'Each write to the armed file descriptor delivers the message once.',
    needs: ['msiEventfd'],
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      const fd = handle.armMsi(MSI_ADDRESS, 0x5a);
      for (let i = 1; i <= 3; i++) {
        writeSync(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
        agent.waitInterrupt(0x5a, i);
      }
      equal(agent.interruptCount(0x5a), 3, 'handler runs');
    },
  },
  {
    name: 'armed-replaced',
    rule: 'Arming another message replaces the first, which inject_msi still delivers.',
    needs: ['msiEventfd'],
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      handle.armMsi(MSI_ADDRESS, 0x5b);
      const fd = handle.armMsi(MSI_ADDRESS, 0x5c);
      writeSync(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
      agent.waitInterrupt(0x5c, 1);
      equal(agent.interruptCount(0x5b), 0, 'handler runs of the replaced vector');
      handle.injectMsi(MSI_ADDRESS, 0x5b);
      agent.waitInterrupt(0x5b, 1);
    },
  },
  {
    name: 'armed-bad-message',
    rule: 'Arming checks the message as inject_msi does.',
    needs: ['msiEventfd'],
    run(ctx) {
      ctx.refuses('BAD_MSI', 'arm_msi', () => ctx.handle.armMsi(0xfef0_0000, 0x40));
      ctx.refuses('BAD_MSI', 'arm_msi', () => ctx.handle.armMsi(MSI_ADDRESS, 15));
    },
  },
];

export const INJECT_MSI_CASES: readonly ConformanceCase[] = group('inject-msi', { operations: ['inject_msi'] }, cases);
