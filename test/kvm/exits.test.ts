/** Guest accesses on the real /dev/kvm: every kind of exit, waits and stops, guests that cannot go on, booting again. */
import t from 'tap';
import { Gpa } from '../../src/core/addresses.js';
import { isTyped, refused } from '../core/expect.js';
import { bootAgent, describe, END_PORT, IMAGE_GPA, MIB, nextOrLate, noKvm, RAM, runBytes, SMALL_RAM, setup } from './support.js';

const skip = noKvm;
const MMIO = 0xf000_0000;
/** out END_PORT, al; hlt */
const END = [0xe6, END_PORT, 0xf4];

t.test('MMIO, port and configuration accesses arrive with size, place and data', { skip }, async (t) => {
  const { backend, machine } = setup();
  const { agent, seen, state } = bootAgent(machine);
  const take = (): string[] => seen.splice(0);
  for (const size of [1, 2, 4] as const) {
    const mask = 2 ** (size * 8) - 1;
    agent.write(MMIO + 8, size, 0x8899_aabb);
    t.equal(agent.read(MMIO + 8, size), (state.answer & mask) >>> 0, `read ${size}`);
    agent.portOut(0x300, size, 0x8899_aabb);
    t.equal(agent.portIn(0x300, size), (state.answer & mask) >>> 0, `in ${size}`);
    const data = `0x${((0x8899_aabb & mask) >>> 0).toString(16)}`;
    t.same(take(), [
      `mmio w${size} 0xf0000008 = ${data}`,
      `mmio r${size} 0xf0000008`,
      `pio w${size} 0x300 = ${data}`,
      `pio r${size} 0x300`,
    ]);
  }
  agent.write64(MMIO, 0x0102_0304, 0x0506_0708);
  const { lo, hi } = agent.read64(MMIO);
  t.same([lo, hi], [state.answer, state.answerHigh]);
  t.same(take(), ['mmio w8 0xf0000000 = 0x5060708_1020304', 'mmio r8 0xf0000000']);
  for (const [register, size] of [
    [0, 4],
    [2, 2],
    [0x3f, 1],
    [0xfc, 4],
  ] as const) {
    agent.pciRead(0x10, register, size);
    agent.pciWrite(0x10, register, size, 0x7f);
    t.same(take(), [`pci r${size} 0x10:0x${register.toString(16)}`, `pci w${size} 0x10:0x${register.toString(16)} = 0x7f`]);
  }
  agent.portOut(0xcf8, 4, 0);
  t.equal(agent.portIn(0xcfc, 4), 0xffff_ffff, 'no configuration cycle');
  t.equal(agent.portIn(0xcf8, 4), 0, 'the address register reads back');
  agent.portIn(0xcf9, 1);
  agent.portOut(0xcf8, 1, 0xff);
  t.equal(agent.portIn(0xcf8, 4), 0, 'a narrow write does not change it');
  t.same(take(), ['pio r1 0xcf9', 'pio w1 0xcf8 = 0xff'], 'what is not for the mechanism is a port access');
  agent.write(0xfff_fffe, 4, 0x4433_2211);
  t.match(
    take().map((line) => line.replace(/ = .*/, '')),
    /^mmio w[12] 0xffffffe/,
    'an MMIO store across pages comes in parts',
  );
  backend.close();
});

t.test('string instructions deliver every element, in order', { skip }, async (t) => {
  const { backend, machine, handle } = setup({ ram: SMALL_RAM });
  handle.writeGpa(
    Gpa(0x2000),
    Uint8Array.from({ length: 16 }, (_, i) => i + 1),
  );
  const seen = runBytes(
    machine,
    [
      0xfc, //                    cld
      ...[0xbe, 0x00, 0x20], //   mov si, 0x2000
      ...[0xb9, 0x05, 0x00], //   mov cx, 5
      ...[0xba, 0x10, 0x00], //   mov dx, 0x10
      ...[0xf3, 0x6e], //         rep outsb
      ...[0xbf, 0x00, 0x21], //   mov di, 0x2100
      ...[0xb9, 0x04, 0x00], //   mov cx, 4
      ...[0xba, 0x12, 0x00], //   mov dx, 0x12
      ...[0xf3, 0x6c], //         rep insb
      ...[0xbe, 0x00, 0x20], //   mov si, 0x2000
      ...[0xb9, 0x02, 0x00], //   mov cx, 2
      ...[0x66, 0xf3, 0x6f], //   rep outsd
      ...[0xb9, 0x03, 0x00], //   mov cx, 3
      ...[0xf3, 0x6d], //         rep insw
      ...[0xb8, 0x00, 0x80], //   mov ax, 0x8000
      ...[0x8e, 0xc0], //         mov es, ax
      ...[0xbf, 0x00, 0x00], //   mov di, 0
      ...[0xb9, 0x02, 0x00], //   mov cx, 2
      ...[0xf3, 0xab], //         rep stosw
      ...[0xbe, 0xfe, 0x20], //   mov si, 0x20fe
      ...[0xb9, 0x01, 0x00], //   mov cx, 1
      ...[0xf3, 0xa5], //         rep movsw
      ...END,
    ],
    [0xa1, 0xa2, 0xa3, 0xa4, 0xb1b1, 0xb2b2, 0xb3b3],
  );
  t.same(seen, [
    ...[1, 2, 3, 4, 5].map((n) => `pio w1 0x10 = 0x${n}`),
    ...Array<string>(4).fill('pio r1 0x12'),
    'pio w4 0x12 = 0x4030201',
    'pio w4 0x12 = 0x8070605',
    ...Array<string>(3).fill('pio r2 0x12'),
    'mmio w2 0x80000 = 0x8000',
    'mmio w2 0x80002 = 0x8000',
    'mmio w2 0x80004 = 0x0',
  ]);
  const stored = new Uint8Array(10);
  handle.readGpa(Gpa(0x2100), stored);
  t.same([...stored], [0xa1, 0xa2, 0xa3, 0xa4, 0xb1, 0xb1, 0xb2, 0xb2, 0xb3, 0xb3], 'what was read is in memory');
  backend.close();
});

t.test('a long string through one port crosses pages and loses nothing', { skip }, async (t) => {
  const { backend, machine, handle } = setup({ ram: SMALL_RAM });
  const length = 6000;
  handle.writeGpa(
    Gpa(0x2000),
    Uint8Array.from({ length }, (_, i) => (i * 7) & 0xff),
  );
  const image = [
    0xfc, //                                        cld
    ...[0xbe, 0x00, 0x20], //                       mov si, 0x2000
    ...[0xb9, length & 0xff, length >> 8], //       mov cx, 6000
    ...[0xba, 0x10, 0x00, 0xf3, 0x6e], //           mov dx, 0x10; rep outsb
    ...[0xbf, 0x00, 0x60], //                       mov di, 0x6000
    ...[0xb9, length & 0xff, length >> 8], //       mov cx, 6000
    ...[0xf3, 0x6c], //                             rep insb
    ...END,
  ];
  const seen = runBytes(
    machine,
    image,
    Array.from({ length }, (_, i) => (i * 11) & 0xff),
  );
  t.equal(seen.length, 2 * length);
  t.equal(
    seen.slice(0, length).findIndex((line, i) => line !== `pio w1 0x10 = 0x${((i * 7) & 0xff).toString(16)}`),
    -1,
    'bytes out',
  );
  const stored = new Uint8Array(length);
  handle.readGpa(Gpa(0x6000), stored);
  t.equal(
    stored.findIndex((byte, i) => byte !== ((i * 11) & 0xff)),
    -1,
    'bytes in',
  );
  backend.close();
});

/**
 * An image that goes to 32-bit protected mode (flat code segment 8, no interrupt table) and runs `code` there.
 * cs: lgdt [0x30]; mov eax, cr0; or al, 1; mov cr0, eax; jmp 8:0x1020; the GDT stands at 0x1040.
 */
function protectedMode(code: readonly number[]): number[] {
  const image = new Uint8Array(0x60);
  image.set([0x2e, 0x0f, 0x01, 0x16, 0x30, 0x00, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x20, 0x10, 0, 0, 8, 0]);
  image.set(code, 0x20);
  image.set([0x0f, 0x00, 0x40, 0x10, 0, 0], 0x30);
  image.set([0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0], 0x48);
  return [...image];
}
/** The real-mode interrupt vectors are no descriptors: any exception is a triple fault. ud2 */
const TRIPLE_FAULT = protectedMode([0x0f, 0x0b]);

t.test('guests that cannot go on end with one typed line', { skip }, async (t) => {
  const guests: Readonly<Record<string, readonly number[]>> = {
    'triple fault': TRIPLE_FAULT,
    // jmp 0x8000:0: nothing is there
    'code in MMIO': [0xea, 0x00, 0x00, 0x00, 0x80],
  };
  for (const [name, image] of Object.entries(guests)) {
    const { backend, machine } = setup({ ram: SMALL_RAM });
    const error = refused(t, 'GUEST_FAULT', () => runBytes(machine, image), name);
    t.match(error.message, /exit \d+, [a-z]/);
    t.doesNotThrow(() => backend.close());
  }
});

t.test('a machine can be booted again, whatever ended the last run', { skip }, async (t) => {
  const ends: Readonly<Record<string, readonly number[]>> = {
    'a triple fault': TRIPLE_FAULT,
    'protected mode': protectedMode([0xb8, 0x78, 0x56, 0x34, 0x12, 0xe7, 0x10, ...END]), // mov eax, 0x12345678; out 0x10, eax
    'a halt': [0xf4],
    'a loop': [0xeb, 0xfe],
    'interrupts off and a halt': [0xfa, 0xf4],
  };
  for (const [name, image] of Object.entries(ends)) {
    const { backend, machine } = setup({ ram: SMALL_RAM });
    try {
      machine.boot(IMAGE_GPA, Uint8Array.from(image));
      for (let i = 0; i < 3; i++) {
        const request = machine.requests.next(3);
        if (request !== undefined) machine.requests.complete(request);
      }
    } catch (error) {
      isTyped(t, error, name);
    }
    // mov ax, 0x1234; out 0x10, ax
    t.same(runBytes(machine, [0xb8, 0x34, 0x12, 0xe7, 0x10, ...END], [], 300), ['pio w2 0x10 = 0x1234'], `after ${name}`);
    backend.close();
  }
});

t.test('hostile accesses become requests or a guest fault, never anything else', { skip }, async (t) => {
  const farSegment = [0xb8, 0x00, 0x80, 0x8e, 0xd8]; // mov ax, 0x8000; mov ds, ax
  const images: Readonly<Record<string, readonly number[]>> = {
    'cmpxchg8b in MMIO': [...farSegment, 0xf0, 0x0f, 0xc7, 0x0e, 0x03, 0x00],
    'movups to MMIO': [0x0f, 0x20, 0xe0, 0x66, 0x0d, 0x00, 0x02, 0x00, 0x00, 0x0f, 0x22, 0xe0, ...farSegment, 0x0f, 0x11, 0x06, 0x07, 0x00],
    'fnsave to MMIO': [...farSegment, 0xdd, 0x36, 0x01, 0x00],
    'stack in MMIO': [0xb8, 0x00, 0x80, 0x8e, 0xd0, 0xbc, 0x05, 0x00, 0x60], // ss:sp = 0x8000:5; pusha
    'enter in MMIO': [0xb8, 0x00, 0x80, 0x8e, 0xd0, 0xbc, 0x20, 0x00, 0xc8, 0x10, 0x00, 0x1f],
    'interrupt frame in MMIO': [0xb8, 0x00, 0x80, 0x8e, 0xd0, 0xbc, 0x20, 0x00, 0xcd, 0x20],
    'page-crossing exchange': [...farSegment, 0x66, 0x87, 0x06, 0xfe, 0x0f],
    'descriptor table in MMIO': [...farSegment, 0x0f, 0x01, 0x16, 0x00, 0x00], // lgdt [0]
    'end of the segment': [...farSegment, 0x66, 0xa3, 0xfe, 0xff], // mov [0xfffe], eax
    'invalid opcode': [0x0f, 0x0b],
    'string wraps the segment': [0xfc, 0xbf, 0xfe, 0xff, 0xb9, 0x08, 0x00, 0xba, 0x10, 0x00, 0xf3, 0x6c],
    'msr of nothing': [0x66, 0xb9, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x32],
    'disable the local APIC, then halt': [0x66, 0xb9, 0x1b, 0, 0, 0, 0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2, 0x0f, 0x30, 0xf4],
  };
  for (const [name, image] of Object.entries(images)) {
    const { backend, machine, handle } = setup({ ram: SMALL_RAM });
    const wrong: string[] = [];
    let end = 'goes on';
    try {
      machine.boot(IMAGE_GPA, Uint8Array.from([...image, ...END]));
      for (let i = 0; i < 500 && end === 'goes on'; i++) {
        const request = machine.requests.next(20);
        if (request === undefined) {
          end = 'is idle';
          break;
        }
        if (!Number.isSafeInteger(request.address) || ![1, 2, 4, 8].includes(request.size)) wrong.push(describe(request));
        request.value.fill(0xffff_ffff);
        if (request.kind === 0 && request.address === END_PORT) end = 'ends';
        machine.requests.complete(request);
      }
    } catch (error) {
      end = String(error);
      if (isTyped(t, error, name) && error.code !== 'GUEST_FAULT') wrong.push(error.message);
    }
    t.same(wrong, [], `${name}: ${end}`);
    handle.injectMsi(0xfee0_0000, 0x41);
    backend.close();
  }
});

t.test('a wait ends after its time, with the guest halted or spinning', { skip }, async (t) => {
  for (const image of [
    [0xf4, 0xeb, 0xfd], // hlt; jmp -3
    [0xeb, 0xfe], //       jmp -2
  ]) {
    const { backend, machine } = setup({ ram: SMALL_RAM });
    machine.boot(IMAGE_GPA, Uint8Array.from(image));
    const start = performance.now();
    for (let i = 0; i < 5; i++) t.equal(machine.requests.next(2), undefined);
    t.ok(performance.now() - start < 1000);
    t.ok((machine.exitCounts().intr ?? 0) >= 5);
    machine.requests.stop();
    t.ok(machine.requests.stopped);
    t.equal(machine.requests.next(), undefined, 'stopped: at once, without a time');
    backend.close();
  }
});

t.test('stop in the middle of a string instruction', { skip }, async (t) => {
  const { backend, machine } = setup({ ram: SMALL_RAM });
  machine.boot(IMAGE_GPA, Uint8Array.from([0xfc, 0xbf, 0, 0x20, 0xb9, 0x20, 0, 0xba, 0x10, 0, 0xf3, 0x6c, ...END])); // rep insb, 32 bytes
  const request = nextOrLate(machine, 2000);
  t.equal(request?.address, 0x10);
  if (request !== undefined) machine.requests.complete(request);
  machine.requests.stop();
  t.equal(machine.requests.next(), undefined);
  backend.close();
});

t.test('boot checks its arguments and waits for no open access', { skip }, async (t) => {
  const { backend, machine } = setup();
  bootAgent(machine);
  refused(t, 'BUSY', () => machine.boot(IMAGE_GPA, Uint8Array.of(0xf4)), 'the agent’s fetch is open');
  const again = { backend, machine: backend.createMachine({ ram: RAM }) };
  for (const gpa of [-16, 8, 0.5, Number.NaN, MIB, MIB - 16])
    refused(t, 'INVALID_ADDRESS', () => again.machine.boot(Gpa(gpa), new Uint8Array(32)), `gpa ${gpa}`);
  const small = again.backend.createMachine({ ram: SMALL_RAM });
  refused(t, 'NOT_RAM', () => small.boot(Gpa(0x1_fff0), new Uint8Array(32)), 'over the end of RAM');
  again.backend.close();
  refused(t, 'CLOSED', () => again.machine.boot(IMAGE_GPA, new Uint8Array(1)));
});

t.test('a request is completed once, before the next', { skip }, async (t) => {
  const { backend, machine } = setup({ ram: SMALL_RAM });
  machine.boot(IMAGE_GPA, Uint8Array.from([0xe4, 0x10, 0xe6, 0x11, ...END])); // in al, 0x10; out 0x11, al
  const request = nextOrLate(machine, 2000);
  if (request === undefined) throw new Error('no access');
  refused(t, 'INTERNAL', () => machine.requests.next(1), 'next before complete');
  request.value[0] = 0x7e;
  machine.requests.complete(request);
  refused(t, 'INTERNAL', () => machine.requests.complete(request), 'complete twice');
  t.equal(describe(nextOrLate(machine, 2000) ?? request), 'pio w1 0x11 = 0x7e');
  backend.close();
});
