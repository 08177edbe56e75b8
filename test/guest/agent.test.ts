/** GuestAgent against a scripted guest: protocol order, deadlines, faults, stop, refused arguments. */
import t from 'tap';
import { type ErrorCode, MptError } from '../../src/core/errors.js';
import { IoKind, type IoRequest } from '../../src/core/io-request.js';
import { AGENT_GPA, AGENT_IMAGE, AGENT_PORT, GuestAgent } from '../../src/guest/agent.js';
import { type AgentWorld, fetchDword, type Guest, ScriptedMachine, scriptedAgent } from './scripted-guest.js';

const MMIO = 0xfe00_0000;

interface Seen {
  readonly kind: IoKind;
  readonly write: boolean;
  readonly address: number;
  readonly size: number;
  readonly value: readonly [number, number];
}

/** An agent over a guest, with a log of what was dispatched; reads answer `answer`. */
function setup(guest: Guest, options: ConstructorParameters<typeof GuestAgent>[2] = {}) {
  const machine = new ScriptedMachine(guest);
  const seen: Seen[] = [];
  const state = { answer: 0x1122_3344, onDispatch: (_request: IoRequest): void => {} };
  const agent = new GuestAgent(
    machine,
    (request) => {
      const { kind, write, address, size, value } = request;
      seen.push({ kind, write, address, size, value: write ? [value[0] as number, value[1] as number] : [0, 0] });
      if (!write) request.value[0] = state.answer;
      state.onDispatch(request);
    },
    options,
  );
  return { machine, agent, seen, state };
}

function bootedAgent(options: ConstructorParameters<typeof GuestAgent>[2] = {}) {
  const world: AgentWorld = { counters: new Uint32Array(256) };
  const parts = setup(scriptedAgent(world), options);
  parts.agent.boot();
  return { ...parts, world };
}

function caught(action: () => void): MptError {
  try {
    action();
  } catch (error) {
    if (error instanceof MptError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const access = (write: boolean, address: number, size: number, low = 0, high = 0, kind: IoKind = IoKind.MMIO): Seen => ({
  kind,
  write,
  address,
  size,
  value: [low, high],
});

t.test('boot loads the image and ends at the first fetch', async (t) => {
  const { machine, agent } = bootedAgent();
  t.same(machine.booted, [{ gpa: AGENT_GPA, length: AGENT_IMAGE.length }]);
  t.equal(agent.commands, 0);
  t.equal(machine.requests.delivered, 1);
  t.equal(caught(() => agent.boot()).code, 'BUSY');
  const short = new GuestAgent(
    new ScriptedMachine(scriptedAgent({ counters: new Uint32Array(256) }), [{ gpa: 0, size: 0xf000 }]),
    () => {},
  );
  t.equal(caught(() => short.boot()).code, 'NOT_RAM');
  t.equal(caught(() => setup(scriptedAgent({ counters: new Uint32Array(256) })).agent.read(0, 4)).code, 'NOT_INITIALIZED');
});

t.test('each command makes its accesses, in order, and returns when they are done', async (t) => {
  const { agent, seen, state } = bootedAgent();
  const take = (): Seen[] => seen.splice(0);

  for (const size of [1, 2, 4] as const) {
    t.equal(agent.read(MMIO + size, size), 0x1122_3344, `read ${size}`);
    t.same(take(), [access(false, MMIO + size, size)]);
    agent.write(MMIO + size, size, 0x77);
    t.same(take(), [access(true, MMIO + size, size, 0x77)]);
    t.equal(agent.portIn(0x300, size), 0x1122_3344, `in ${size}`);
    t.same(take(), [access(false, 0x300, size, 0, 0, IoKind.PIO)]);
    agent.portOut(0x302, size, 0x66);
    t.same(take(), [access(true, 0x302, size, 0x66, 0, IoKind.PIO)]);
    agent.burstRead(MMIO, size, 2);
    t.same(take(), [access(false, MMIO, size), access(false, MMIO, size)]);
    agent.burstWrite(MMIO, size, 5, 3);
    t.same(take(), Array(3).fill(access(true, MMIO, size, 5)));
  }
  state.answer = 0xffff_fffe;
  t.equal(agent.read(MMIO, 4), 0xffff_fffe, 'values are unsigned');
  t.same(agent.read64(MMIO + 8), { lo: 0xffff_fffe, hi: 0x0506_0708 });
  take();
  agent.write64(MMIO + 8, -1, 2 ** 32 + 3);
  t.same(take(), [access(true, MMIO + 8, 8, 0xffff_ffff, 3)], 'values are taken modulo 2^32');

  agent.stream(MMIO, [1, 2, 3]);
  t.same(take(), [access(true, MMIO, 4, 1), access(true, MMIO + 4, 4, 2), access(true, MMIO + 8, 4, 3)]);
  agent.stream64(MMIO, Uint32Array.of(1, 2, 3, 4));
  t.same(take(), [access(true, MMIO, 8, 1, 2), access(true, MMIO + 8, 8, 3, 4)]);
  const before = agent.commands;
  agent.stream(MMIO, []);
  agent.stream64(MMIO, []);
  agent.burstRead(MMIO, 4, 0);
  agent.burstWrite(MMIO, 4, 0, 0);
  t.equal(agent.commands, before, 'nothing to do is no command');
  t.same(take(), []);
  agent.write(MMIO, 4, 1);
  t.equal(agent.commands, before + 1);
});

t.test('PCI configuration goes through the two ports', async (t) => {
  const { agent, seen } = bootedAgent();
  agent.pciRead(0x10, 0x0e, 2);
  agent.pciWrite(0xffff, 0xff, 1, 0xaa);
  t.same(seen, [
    access(true, 0xcf8, 4, 0x8000_100c, 0, IoKind.PIO),
    access(false, 0xcfe, 2, 0, 0, IoKind.PIO),
    access(true, 0xcf8, 4, 0x80ff_fffc, 0, IoKind.PIO),
    access(true, 0xcff, 1, 0xaa, 0, IoKind.PIO),
  ]);
});

t.test('poll ends when the masked dword has the value', async (t) => {
  const { agent, seen, state } = bootedAgent();
  const answers = [0x10, 0x20, 0x8000_0030];
  state.onDispatch = (request) => {
    request.value[0] = answers[seen.length - 1] as number;
  };
  agent.poll(MMIO, 0x8000_00f0, 0x8000_0030);
  t.equal(seen.length, 3);
});

t.test('interrupts: counted by the guest, waited for, onIdle runs meanwhile', async (t) => {
  let idles = 0;
  const { agent, world } = bootedAgent({
    onIdle: () => {
      idles++;
      world.counters[0x41] = (world.counters[0x41] as number) + 1;
    },
  });
  t.equal(agent.interruptCount(0x41), 0);
  agent.waitInterrupt(0x41, 3);
  t.equal(idles, 3);
  t.equal(agent.interruptCount(0x41), 3);
  agent.waitInterrupt(0x41, 2);
  t.equal(idles, 3, 'a count that is there already does not wait');
});

t.test('TIMEOUT names what was wanted and seen; the next call resumes', async (t) => {
  const { agent, world, seen } = bootedAgent({ timeoutMs: 5 });
  world.counters[0x50] = 2;
  const error = caught(() => agent.waitInterrupt(0x50, 4));
  t.equal(error.code, 'TIMEOUT');
  t.match(error.message, /wait_interrupt.*vector 0x50, 4 interrupts wanted, 2 seen/);
  t.notMatch(error.message, /\n/);
  t.equal(caught(() => agent.write(MMIO, 4, 1)).code, 'TIMEOUT', 'the guest still waits');
  t.same(seen, []);
  world.counters[0x50] = 4;
  agent.write(MMIO, 4, 1);
  t.same(seen, [access(true, MMIO, 4, 1)]);
});

t.test('a guest that exits for ever meets the deadline too', async (t) => {
  const { agent, state } = bootedAgent({ timeoutMs: 5 });
  state.answer = 0;
  const error = caught(() => agent.poll(MMIO, 1, 1));
  t.equal(error.code, 'TIMEOUT');
  t.equal(error.address, MMIO);
  state.answer = 1;
  t.equal(agent.read(MMIO, 4), 1);
});

t.test('a guest that never fetches: boot ends by TIMEOUT', async (t) => {
  const { agent } = setup((function* (): Guest {})(), { timeoutMs: 3 });
  const error = caught(() => agent.boot());
  t.equal(error.code, 'TIMEOUT');
  t.match(error.message, /'boot' within 3 ms/);
});

t.test('an exception is GUEST_FAULT, now and ever after', async (t) => {
  const { agent, world, machine } = bootedAgent();
  world.fault = { command: 'write32', vector: 13, eip: 0x80e0, code: 0x38 };
  const error = caught(() => agent.write(MMIO, 4, 1));
  t.equal(error.code, 'GUEST_FAULT');
  t.equal(error.address, 0x80e0);
  t.match(error.message, /exception 13 \(general protection\) at EIP 0x80e0, error code 0x38, inside 'write32'/);
  const { delivered } = machine.requests;
  t.equal(
    caught(() => agent.read(MMIO, 4)),
    error,
  );
  t.equal(machine.requests.delivered, delivered, 'the guest is not run again');
});

t.test('stop ends every command, before and inside it', async (t) => {
  const { agent, machine } = bootedAgent({
    onIdle: () => machine.requests.stop(),
  });
  const error = caught(() => agent.spin());
  t.equal(error.code, 'STOPPED');
  t.match(error.message, /'spin'/);
  t.equal(caught(() => agent.read(MMIO, 4)).code, 'STOPPED');

  const other = bootedAgent();
  other.machine.requests.stop();
  t.equal(caught(() => other.agent.write(MMIO, 4, 1)).code, 'STOPPED');
  t.same(other.seen, []);
});

t.test('what dispatch throws passes through, the access is completed and the agent goes on', async (t) => {
  const { agent, state, seen } = bootedAgent();
  state.onDispatch = () => {
    throw new RangeError('from the handler');
  };
  t.throws(() => agent.burstWrite(MMIO, 4, 9, 2), RangeError);
  state.onDispatch = () => {};
  t.equal(agent.read(MMIO + 4, 4), 0x1122_3344);
  t.same(seen, [access(true, MMIO, 4, 9), access(true, MMIO, 4, 9), access(false, MMIO + 4, 4)]);

  let inner: MptError | undefined;
  state.onDispatch = () => {
    inner = caught(() => agent.write(MMIO, 4, 1));
  };
  agent.write(MMIO, 4, 1);
  t.equal(inner?.code, 'BUSY', 'no commands from inside a command');
});

t.test('accesses to the agent ports that are not the protocol go to dispatch', async (t) => {
  const { agent, seen } = setup(
    (function* (): Guest {
      yield { ...fetchDword(), size: 2 };
      yield { kind: IoKind.MMIO, write: true, address: AGENT_PORT, size: 4, low: 5 };
      yield fetchDword();
    })(),
  );
  agent.boot();
  t.same(seen, [access(false, AGENT_PORT, 2, 0, 0, IoKind.PIO), access(true, AGENT_PORT, 4, 5)]);
});

t.test('refused arguments', async (t) => {
  const { agent, machine } = bootedAgent();
  const delivered = machine.requests.delivered;
  const rows: [string, ErrorCode, () => unknown][] = [
    ['one byte past 4 GiB', 'INVALID_ADDRESS', () => agent.read(0xffff_ffff, 2)],
    ['8 bytes past 4 GiB', 'INVALID_ADDRESS', () => agent.write64(0xffff_fff9, 0, 0)],
    ['negative address', 'INVALID_ADDRESS', () => agent.write(-1, 1, 0)],
    ['fraction', 'INVALID_ADDRESS', () => agent.read64(0.5)],
    ['NaN', 'INVALID_ADDRESS', () => agent.poll(Number.NaN, 1, 1)],
    ['stream past 4 GiB', 'INVALID_ADDRESS', () => agent.stream(0xffff_fff8, [1, 2, 3])],
    ['burst past 4 GiB', 'INVALID_ADDRESS', () => agent.burstRead(2 ** 32, 1, 1)],
    ['odd stream64', 'INVALID_ARGUMENT', () => agent.stream64(MMIO, [1, 2, 3])],
    ['size 3', 'INVALID_ARGUMENT', () => agent.read(MMIO, 3 as 4)],
    ['size 8', 'INVALID_ARGUMENT', () => agent.burstWrite(MMIO, 8 as 4, 0, 1)],
    ['fractional count', 'INVALID_ARGUMENT', () => agent.burstRead(MMIO, 4, 1.5)],
    ['count 2^32', 'INVALID_ARGUMENT', () => agent.burstRead(MMIO, 4, 2 ** 32)],
    ['port past the end', 'INVALID_ADDRESS', () => agent.portIn(0xffff, 2)],
    ['first agent port', 'INVALID_ARGUMENT', () => agent.portIn(AGENT_PORT - 1, 2)],
    ['last agent port', 'INVALID_ARGUMENT', () => agent.portOut(AGENT_PORT + 7, 1, 0)],
    ['exception vector', 'INVALID_ARGUMENT', () => agent.waitInterrupt(31, 1)],
    ['vector 256', 'INVALID_ARGUMENT', () => agent.interruptCount(256)],
    ['value outside mask', 'INVALID_ARGUMENT', () => agent.poll(MMIO, 0xf, 0x10)],
    ['PCI register 256', 'INVALID_ARGUMENT', () => agent.pciRead(0, 256, 1)],
    ['PCI access across a dword', 'INVALID_ARGUMENT', () => agent.pciWrite(0, 3, 2, 0)],
    ['PCI function of 17 bits', 'INVALID_ARGUMENT', () => agent.pciRead(0x1_0000, 0, 4)],
  ];
  for (const [name, code, action] of rows) {
    const error = caught(action);
    t.equal(error.code, code, `${name}: ${error.message}`);
    t.notMatch(error.message, /\n/);
  }
  t.equal(caught(() => new GuestAgent(machine, () => {}, { timeoutMs: 0 })).code, 'INVALID_ARGUMENT');
  t.equal(machine.requests.delivered, delivered, 'the guest saw none of them');
  t.equal(agent.read(0xffff_ffff, 1), 0x1122_3344, 'the last byte is reachable');
  t.equal(agent.portIn(0xfffe, 2), 0x1122_3344, 'and the last port');
});
