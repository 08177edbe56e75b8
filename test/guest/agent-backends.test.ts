/** Every agent command on every backend that can run a guest: real instructions on /dev/kvm, interpreted ones on sim. */
import t from 'tap';
import { BACKENDS } from '../../src/backends/index.js';
import { bdf, Gpa, VgpuId } from '../../src/core/addresses.js';
import { MptError } from '../../src/core/errors.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { IoKind, type IoRequest } from '../../src/core/io-request.js';
import { AGENT_COMMANDS, AGENT_COUNTERS_GPA, AGENT_FREE_GPA, AGENT_GPA, AGENT_IMAGE, GuestAgent } from '../../src/guest/agent.js';

const MIB = 0x10_0000;
const RAM = AGENT_FREE_GPA;
const MMIO = 0xe000_0000;
const MSI_ADDRESS = 0xfee0_0000;
/** Where the jump table starts: the last thing in the image. */
const JUMP_TABLE = AGENT_GPA + AGENT_IMAGE.length - Object.keys(AGENT_COMMANDS).length * 4;

const caught = (action: () => void): MptError => {
  try {
    action();
  } catch (error) {
    if (error instanceof MptError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};

for (const module of BACKENDS) {
  const probe = module.probe();
  const reason = probe.available ? (probe.capabilities?.machine === true ? '' : 'it creates no machines') : probe.reason;
  t.test(module.name, { skip: reason !== '' && `${module.name}: ${reason}` }, async (t) => {
    const backend = module.open();
    t.teardown(() => backend.close());
    backend.hostInit(NULL_GVT_OPS);

    /** A booted agent in a machine of its own, with a log of its accesses. */
    function setup(timeoutMs = 5000) {
      const machine = backend.createMachine({ ram: [{ gpa: 0, size: 2 * MIB }] });
      const handle = backend.attachVgpu({ id: VgpuId(1), vmId: machine.vmId, bdf: bdf(0, 2, 0) });
      const log: string[] = [];
      const state = {
        low: 0x8877_6655,
        high: 0x1122_3344,
        logging: true,
        onAccess: (_request: IoRequest): void => {},
        onIdle: (): void => {},
      };
      const agent = new GuestAgent(
        machine,
        (request) => {
          const { kind, write, address, size, value } = request;
          if (state.logging) {
            const place =
              kind === IoKind.PCI_CONFIG ? `pci ${request.bdf}+${address}` : `${kind === IoKind.PIO ? 'io' : 'mm'} ${address.toString(16)}`;
            const data = write ? ` = ${(value[1] as number).toString(16)}:${(value[0] as number).toString(16)}` : '';
            log.push(`${place} ${write ? 'w' : 'r'}${size}${data}`);
          }
          if (!write) {
            value[0] = state.low;
            value[1] = state.high;
          }
          state.onAccess(request);
        },
        { timeoutMs, onIdle: () => state.onIdle() },
      );
      const close = (): void => {
        handle.detachVgpu();
        machine.close();
      };
      agent.boot();
      return { machine, handle, agent, log, state, close, take: () => log.splice(0) };
    }

    t.test('memory', async (t) => {
      const { agent, handle, log, close } = setup();
      t.teardown(close);
      const bytes = new Uint8Array(32);
      agent.write(RAM + 1, 1, 0x1ff);
      agent.write(RAM + 2, 2, 0x1_beef);
      agent.write(RAM + 4, 4, 0xdead_beef);
      agent.write64(RAM + 8, 0x0403_0201, 0x0807_0605);
      handle.readGpa(Gpa(RAM), bytes);
      t.equal(Buffer.from(bytes.subarray(0, 17)).toString('hex'), '00ffefbeefbeadde010203040506070800');
      t.equal(agent.read(RAM + 1, 1), 0xff);
      t.equal(agent.read(RAM + 2, 2), 0xbeef);
      t.equal(agent.read(RAM + 4, 4), 0xdead_beef);
      t.same(agent.read64(RAM + 8), { lo: 0x0403_0201, hi: 0x0807_0605 });
      agent.stream(RAM + 0x100, [1, -1, 3]);
      agent.stream64(RAM + 0x200, [5, 6, 7, 0xffff_ffff]);
      agent.burstWrite(RAM + 0x300, 4, 0x1234_5678, 3);
      agent.burstRead(RAM + 0x300, 2, 3);
      t.same(
        [0x100, 0x104, 0x108, 0x10c, 0x200, 0x204, 0x208, 0x20c, 0x210, 0x300, 0x304].map((at) => agent.read(RAM + at, 4)),
        [1, 0xffff_ffff, 3, 0, 5, 6, 7, 0xffff_ffff, 0, 0x1234_5678, 0],
      );
      agent.write(2 * MIB - 1, 1, 0xab);
      t.equal(agent.read(2 * MIB - 1, 1), 0xab, 'the last byte of RAM');
      t.same(log, [], 'RAM makes no requests');
    });

    t.test('MMIO: one access an instruction, of its size, both ways', async (t) => {
      const { agent, take, close } = setup();
      t.teardown(close);
      t.equal(agent.read(MMIO + 1, 1), 0x55);
      t.equal(agent.read(MMIO + 2, 2), 0x6655);
      t.equal(agent.read(MMIO + 4, 4), 0x8877_6655);
      t.same(agent.read64(MMIO + 8), { lo: 0x8877_6655, hi: 0x1122_3344 });
      t.same(take(), ['mm e0000001 r1', 'mm e0000002 r2', 'mm e0000004 r4', 'mm e0000008 r8']);
      agent.write(MMIO + 1, 1, 0x1aa);
      agent.write(MMIO + 2, 2, 0x1_bbcc);
      agent.write(MMIO + 4, 4, 0xddee_ff00);
      agent.write64(MMIO + 8, 0x1111_2222, 0x3333_4444);
      t.same(take(), [
        'mm e0000001 w1 = 0:aa',
        'mm e0000002 w2 = 0:bbcc',
        'mm e0000004 w4 = 0:ddeeff00',
        'mm e0000008 w8 = 33334444:11112222',
      ]);
      agent.stream(MMIO, [1, 2]);
      agent.stream64(MMIO + 0x10, [3, 4, 5, 6]);
      t.same(take(), ['mm e0000000 w4 = 0:1', 'mm e0000004 w4 = 0:2', 'mm e0000010 w8 = 4:3', 'mm e0000018 w8 = 6:5']);
      for (const size of [1, 2, 4] as const) {
        agent.burstRead(MMIO, size, 2);
        agent.burstWrite(MMIO, size, 7, 2);
        t.same(take(), [...Array(2).fill(`mm e0000000 r${size}`), ...Array(2).fill(`mm e0000000 w${size} = 0:7`)]);
      }
    });

    t.test('ports and PCI configuration', async (t) => {
      const { agent, take, close } = setup();
      t.teardown(close);
      t.same([agent.portIn(0x1234, 1), agent.portIn(0x1234, 2), agent.portIn(0x1234, 4)], [0x55, 0x6655, 0x8877_6655]);
      t.same(take(), ['io 1234 r1', 'io 1234 r2', 'io 1234 r4']);
      agent.portOut(0x1235, 1, 0x1fe);
      agent.portOut(0x1236, 2, 0x1_fedc);
      agent.portOut(0x1238, 4, 0xfedc_ba98);
      t.same(take(), ['io 1235 w1 = 0:fe', 'io 1236 w2 = 0:fedc', 'io 1238 w4 = 0:fedcba98']);
      t.equal(agent.pciRead(0x10, 0x0e, 2), 0x6655);
      agent.pciWrite(0x10, 0x40, 4, 0xffff_ffff);
      t.same(take(), ['pci 16+14 r2', 'pci 16+64 w4 = 0:ffffffff']);
    });

    t.test('interrupts: counted by vector, none lost, registers and flags survive', async (t) => {
      const { agent, handle, state, close } = setup();
      t.teardown(close);
      const first = 0x20;
      for (let vector = first; vector < 256; vector++) handle.injectMsi(MSI_ADDRESS, vector);
      agent.waitInterrupt(first, 1);
      const counts = Array.from({ length: 256 - first }, (_, index) => agent.interruptCount(first + index));
      t.same(counts, Array(256 - first).fill(1), 'every vector once');

      // One interrupt at each access of a burst: a handler that harms the loop's registers changes the count.
      let accesses = 0;
      state.logging = false;
      state.onAccess = () => {
        accesses++;
        handle.injectMsi(MSI_ADDRESS, 0x80 + (accesses & 1));
      };
      agent.burstWrite(MMIO, 4, 1, 500);
      t.equal(accesses, 500);
      // And at each turn of a comparison loop: a handler that harms the flags ends it early.
      state.onAccess = (request) => {
        accesses++;
        request.value[0] = accesses < 1000 ? 0 : 3;
        handle.injectMsi(MSI_ADDRESS, 0x80 + (accesses & 1));
      };
      agent.poll(MMIO, 3, 3);
      t.equal(accesses, 1000);
      agent.waitInterrupt(0x80, 501);
      agent.waitInterrupt(0x81, 501);
      t.same([agent.interruptCount(0x80), agent.interruptCount(0x81)], [501, 501]);
    });

    t.test('a halted guest is woken by what onIdle injects; the poll sees what the host writes', async (t) => {
      const { agent, handle, state, close } = setup();
      t.teardown(close);
      let injected = 0;
      state.onIdle = () => {
        if (injected++ < 3) handle.injectMsi(MSI_ADDRESS, 0x55);
      };
      agent.waitInterrupt(0x55, 3);
      t.equal(agent.interruptCount(0x55), 3);
      const dword = Uint8Array.of(0x34, 0x12, 0, 0);
      state.onIdle = () => handle.writeGpa(Gpa(RAM + 0x40), dword);
      agent.poll(RAM + 0x40, 0xff00, 0x1200);
      t.equal(agent.read(RAM + 0x40, 4), 0x1234);
    });

    t.test('TIMEOUT with the counts; afterwards the agent goes on', async (t) => {
      const { agent, handle, close } = setup(150);
      t.teardown(close);
      handle.injectMsi(MSI_ADDRESS, 0x66);
      const error = caught(() => agent.waitInterrupt(0x66, 2));
      t.equal(error.code, 'TIMEOUT');
      t.match(error.message, /vector 0x66, 2 interrupts wanted, 1 seen/);
      handle.injectMsi(MSI_ADDRESS, 0x66);
      t.equal(agent.interruptCount(0x66), 2);
    });

    t.test('spin takes interrupts and ends by stop', async (t) => {
      const { agent, handle, machine, state, close } = setup();
      t.teardown(close);
      const counter = new Uint8Array(4);
      let idles = 0;
      state.onIdle = () => {
        if (idles++ === 0) handle.injectMsi(MSI_ADDRESS, 0x70);
        handle.readGpa(Gpa(AGENT_COUNTERS_GPA + 0x70 * 4), counter);
        if (counter[0] === 1) machine.requests.stop();
      };
      t.equal(caught(() => agent.spin()).code, 'STOPPED');
      t.equal(counter[0], 1);
    });

    t.test('exceptions: vector, EIP and error code', async (t) => {
      for (const { name, code, expected } of [
        { name: 'ud2', code: [0x0f, 0x0b], expected: /exception 6 \(invalid opcode\) at EIP 0x10800, error code 0x0, inside 'spin'/ },
        {
          name: 'a selector past the table',
          code: [0xb8, 0x38, 0, 0, 0, 0x8e, 0xd8],
          expected: /exception 13 \(general protection\) at EIP 0x10805, error code 0x38/,
        },
      ]) {
        const { agent, handle, close } = setup();
        handle.writeGpa(Gpa(RAM + 0x800), Uint8Array.from(code));
        agent.write(JUMP_TABLE + AGENT_COMMANDS.spin.opcode * 4, 4, RAM + 0x800);
        const error = caught(() => agent.spin());
        t.equal(error.code, 'GUEST_FAULT', name);
        t.match(error.message, expected);
        t.equal(
          caught(() => agent.read(RAM, 4)),
          error,
        );
        close();
      }
    });
  });
}
