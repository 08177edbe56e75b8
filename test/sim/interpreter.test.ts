// The interpreted vCPU: each instruction against results worked out by hand, then modes, interrupts and faults.
import t from 'tap';
import { SimBackend } from '../../src/backends/sim/backend.js';
import type { SimHandle } from '../../src/backends/sim/handle.js';
import type { SimMachine } from '../../src/backends/sim/machine.js';
import { Gfn, Gpa } from '../../src/core/addresses.js';
import { MptError } from '../../src/core/errors.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { IO_KIND_NAMES, IoKind } from '../../src/core/io-request.js';
import { Bdf, VgpuId } from '../../src/core/mpt.js';
import { type Case, INITIAL, MEMORY_GPA, runCases, type State } from './guest-code.js';

const CF = 0x1;
const PF = 0x4;
const AF = 0x10;
const ZF = 0x40;
const SF = 0x80;
const DF = 0x400;
const OF = 0x800;
const ALL = CF | PF | AF | ZF | SF | OF;
const b4 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
const M = MEMORY_GPA;

/** name, code, state before, what differs from it afterwards; `flags` without the bit that is always one. */
type Row = readonly [name: string, code: readonly number[], before: Partial<State>, after: Partial<State>];

const ROWS: readonly Row[] = [
  // Addition and subtraction: carry out of bit 31, 7; overflow; carry from bit 3.
  ['add eax,ebx wraps', [0x01, 0xd8], { eax: 0xffff_ffff, ebx: 1 }, { eax: 0, flags: CF | PF | AF | ZF }],
  ['add eax,ebx overflows', [0x01, 0xd8], { eax: 0x7fff_ffff, ebx: 1 }, { eax: 0x8000_0000, flags: PF | AF | SF | OF }],
  ['add al,imm', [0x04, 0x80], { eax: 0x1180 }, { eax: 0x1100, flags: CF | PF | ZF | OF }],
  ['add ax,imm8', [0x66, 0x83, 0xc0, 0xff], { eax: 0xaaaa_0001 }, { eax: 0xaaaa_0000, flags: CF | PF | AF | ZF }],
  ['adc takes the carry', [0x11, 0xd8], { eax: 1, ebx: 2, flags: CF }, { eax: 4, flags: 0 }],
  ['adc carries through all ones', [0x11, 0xd8], { eax: 5, ebx: 0xffff_ffff, flags: CF }, { eax: 5, flags: CF | PF | AF }],
  ['sub eax,ebx borrows', [0x29, 0xd8], { eax: 1, ebx: 2 }, { eax: 0xffff_ffff, flags: CF | PF | AF | SF }],
  ['sub overflows', [0x29, 0xd8], { eax: 0x8000_0000, ebx: 1 }, { eax: 0x7fff_ffff, flags: PF | AF | OF }],
  ['sbb takes the borrow', [0x19, 0xd8], { eax: 5, ebx: 5, flags: CF }, { eax: 0xffff_ffff, flags: CF | PF | AF | SF }],
  ['cmp keeps its operands', [0x39, 0xd8], { eax: 7, ebx: 7 }, { flags: PF | ZF }],
  ['cmp eax,imm below', [0x3d, ...b4(0x100)], { eax: 0xff }, { flags: CF | PF | SF }],
  ['sub [m],eax', [0x29, 0x05, ...b4(M)], { eax: 3, m0: 10 }, { m0: 7, flags: 0 }],
  ['inc keeps CF', [0x40], { eax: 0x7fff_ffff, flags: CF }, { eax: 0x8000_0000, flags: CF | PF | AF | SF | OF }],
  ['dec keeps CF', [0x49], { ecx: 1, flags: CF }, { ecx: 0, flags: CF | PF | ZF }],
  ['lock inc [m]', [0xf0, 0xff, 0x05, ...b4(M)], { m0: 0xffff_ffff }, { m0: 0, flags: PF | AF | ZF }],
  ['neg', [0xf7, 0xd8], { eax: 1 }, { eax: 0xffff_ffff, flags: CF | PF | AF | SF }],
  ['not changes no flag', [0xf7, 0xd0], { eax: 0x00ff_00ff, flags: ALL }, { eax: 0xff00_ff00, flags: ALL }],
  // Logic clears CF, OF and AF.
  ['and', [0x21, 0xd8], { eax: 0xf0, ebx: 0x0f, flags: ALL }, { eax: 0, flags: PF | ZF }],
  ['and eax,imm', [0x25, ...b4(0x8000_0001)], { eax: 0xffff_ffff }, { eax: 0x8000_0001, flags: SF }],
  ['or [m],imm8 sign-extends', [0x83, 0x0d, ...b4(M), 0x80], { m0: 0 }, { m0: 0xffff_ff80, flags: SF }],
  ['xor clears', [0x31, 0xc0], { eax: 0x1234, flags: CF | OF }, { eax: 0, flags: PF | ZF }],
  ['test bl,1', [0xf6, 0xc3, 0x01], { ebx: 3, flags: CF }, { flags: 0 }],
  ['test al,imm', [0xa8, 0x80], { eax: 0x80 }, { flags: SF }],
  // Shifts: CF is the last bit out; OF only means something for a count of one.
  ['shl 1', [0xd1, 0xe0], { eax: 0x4000_0001 }, { eax: 0x8000_0002, flags: SF | OF }],
  ['shl imm', [0xc1, 0xe0, 4], { eax: 0x1000_0001 }, { eax: 0x10, flags: CF | OF }],
  ['shr 1', [0xd1, 0xe8], { eax: 0x8000_0001 }, { eax: 0x4000_0000, flags: CF | PF | OF }],
  ['shr cl', [0xd3, 0xeb], { ebx: 0x60, ecx: 5 }, { ebx: 3, flags: PF }],
  ['shift by zero changes no flag', [0xd3, 0xe0], { eax: 5, ecx: 32, flags: ALL }, { flags: ALL }],
  ['sar 1 keeps the sign', [0xd1, 0xf8], { eax: 0x8000_0003 }, { eax: 0xc000_0001, flags: CF | SF }],
  ['rol 8 of a byte', [0xc0, 0xc0, 4], { eax: 0xa5 }, { eax: 0x5a, flags: 0 }],
  ['ror 1', [0xd1, 0xc8], { eax: 1 }, { eax: 0x8000_0000, flags: CF | OF }],
  ['rcl 1 through CF', [0xd1, 0xd0], { eax: 0x8000_0000, flags: CF }, { eax: 1, flags: CF | OF }],
  ['rcr 1 through CF', [0xd1, 0xd8], { eax: 2, flags: CF }, { eax: 0x8000_0001, flags: OF }],
  // Moves, extensions, addresses.
  ['mov r,imm and r,r', [0xb8, ...b4(0x8765_4321), 0x89, 0xc2], { flags: ALL }, { eax: 0x8765_4321, edx: 0x8765_4321, flags: ALL }],
  ['mov ah,bl', [0x88, 0xdc], { eax: 0x1111_1111, ebx: 0x77 }, { eax: 0x1111_7711 }],
  ['mov [ebp+4],ax', [0x66, 0x89, 0x45, 0x04], { eax: 0xaaaa_bbbb, m1: 0x1111_1111 }, { m1: 0x1111_bbbb }],
  ['mov eax,moffs', [0xa1, ...b4(M)], { m0: 0x1234_5678 }, { eax: 0x1234_5678 }],
  ['unaligned load across dwords', [0x8b, 0x05, ...b4(M + 3)], { m0: 0x1100_0000, m1: 0x0044_3322 }, { eax: 0x4433_2211 }],
  ['unaligned store', [0xa3, ...b4(M + 2)], { eax: 0x4433_2211, m0: 0, m1: 0 }, { m0: 0x2211_0000, m1: 0x4433 }],
  ['mov byte [m],imm', [0xc6, 0x05, ...b4(M + 1), 0x99], { m0: 0x1111_1111 }, { m0: 0x1111_9911 }],
  ['lea base+index*4+disp', [0x8d, 0x84, 0x8b, ...b4(0x100)], { ebx: 0x10, ecx: 3, flags: ALL }, { eax: 0x11c, flags: ALL }],
  ['movzx byte', [0x0f, 0xb6, 0xc3], { ebx: 0xffff_ff80 }, { eax: 0x80 }],
  ['movzx word [m]', [0x0f, 0xb7, 0x05, ...b4(M)], { m0: 0xffff_8001 }, { eax: 0x8001 }],
  ['movsx byte', [0x0f, 0xbe, 0xc3], { ebx: 0x80 }, { eax: 0xffff_ff80 }],
  ['cdq', [0x99], { eax: 0x8000_0000 }, { edx: 0xffff_ffff }],
  ['xchg', [0x93], { eax: 1, ebx: 2 }, { eax: 2, ebx: 1 }],
  ['bswap', [0x0f, 0xc8], { eax: 0x1122_3344 }, { eax: 0x4433_2211 }],
  [
    'movq through mm0',
    [0x0f, 0x6f, 0x05, ...b4(M), 0x0f, 0x7f, 0x05, ...b4(M + 0x40), 0xa1, ...b4(M + 0x44)],
    { m1: 0xdead_beef },
    { eax: 0xdead_beef },
  ],
  [
    'movq mm1,mm0 and emms',
    [0x0f, 0x6f, 0x05, ...b4(M), 0x0f, 0x6f, 0xc8, 0x0f, 0x7f, 0x0d, ...b4(M + 0x40), 0x0f, 0x77, 0xa1, ...b4(M + 0x40)],
    { m0: 7 },
    { eax: 7 },
  ],
  // Multiplication and division.
  ['mul', [0xf7, 0xe3], { eax: 0xffff_ffff, ebx: 0xffff_ffff }, { eax: 1, edx: 0xffff_fffe, flags: CF | OF }],
  ['imul of minus ones', [0xf7, 0xeb], { eax: 0xffff_ffff, ebx: 0xffff_ffff }, { eax: 1, edx: 0, flags: 0 }],
  ['div', [0xf7, 0xf3], { eax: 0, edx: 1, ebx: 3 }, { eax: 0x5555_5555, edx: 1 }],
  ['idiv rounds to zero', [0xf7, 0xfb], { eax: -7 >>> 0, edx: 0xffff_ffff, ebx: 2 }, { eax: -3 >>> 0, edx: 0xffff_ffff }],
  ['div of a byte', [0xf6, 0xf3], { eax: 1000, ebx: 7 }, { eax: (6 << 8) | 142 }],
  // Stack.
  ['push pop', [0x68, ...b4(0x1234), 0x58], {}, { eax: 0x1234 }],
  ['push moves esp by four', [0x50], {}, { esp: INITIAL.esp - 4 }],
  ['pusha popa', [0x60, 0x31, 0xc0, 0x31, 0xdb, 0x61], { eax: 1, ebx: 2, ecx: 3 }, { flags: PF | ZF }],
  ['pushf popf', [0x9c, 0x58, 0x83, 0xc8, 0x01, 0x50, 0x9d], { flags: ZF }, { eax: ZF | 3, flags: ZF | CF }],
  ['call and ret', [0xe8, 2, 0, 0, 0, 0xeb, 6, 0xb8, ...b4(9), 0xc3], {}, { eax: 9 }],
  ['ret drops arguments', [0x6a, 7, 0xe8, 2, 0, 0, 0, 0xeb, 3, 0xc2, 4, 0], {}, {}],
  // Jumps and loops: the target skips mov eax, 1.
  ['jae taken', [0x73, 5, 0xb8, ...b4(1)], { flags: ZF }, {}],
  ['jae not taken', [0x73, 5, 0xb8, ...b4(1)], { flags: CF }, { eax: 1 }],
  ['jl by SF != OF', [0x7c, 5, 0xb8, ...b4(1)], { flags: OF }, {}],
  ['jg not taken on ZF', [0x7f, 5, 0xb8, ...b4(1)], { flags: ZF }, { eax: 1 }],
  ['near je', [0x0f, 0x84, 5, 0, 0, 0, 0xb8, ...b4(1)], { flags: ZF }, {}],
  ['loop counts ecx', [0x40, 0xe2, 0xfd], { ecx: 4, eax: 0 }, { eax: 4, ecx: 0, flags: 0 }],
  ['setb and cmovb', [0x0f, 0x92, 0xc0, 0x0f, 0x42, 0xcb], { flags: CF, ebx: 8 }, { eax: 1, ecx: 8 }],
  // Strings, forwards and backwards.
  ['rep stosd', [0xf3, 0xab], { eax: 7, ecx: 2, edi: M }, { m0: 7, m1: 7, ecx: 0, edi: M + 8 }],
  [
    'rep movsb backwards',
    [0xf3, 0xa4],
    { flags: DF, ecx: 4, esi: M + 3, edi: M + 7, m0: 0x0403_0201 },
    { m1: 0x0403_0201, ecx: 0, esi: M - 1, edi: M + 3 },
  ],
  ['repne scasb', [0xf2, 0xae], { eax: 3, ecx: 8, edi: M, m0: 0x0403_0201 }, { ecx: 5, edi: M + 3, flags: PF | ZF }],
  ['rep with a count of zero', [0xf3, 0xab], { eax: 7, ecx: 0 }, {}],
  // Bits and exchanges.
  ['bts [m] beyond the dword', [0x0f, 0xab, 0x05, ...b4(M)], { eax: 33 }, { m1: 2 }],
  ['btr imm', [0x0f, 0xba, 0xf0, 3], { eax: 0xf }, { eax: 7, flags: CF }],
  ['bsf', [0x0f, 0xbc, 0xc3], { ebx: 0x50 }, { eax: 4 }],
  ['bsr', [0x0f, 0xbd, 0xc3], { ebx: 0x50 }, { eax: 6 }],
  ['cmpxchg equal', [0x0f, 0xb1, 0x1d, ...b4(M)], { eax: 5, ebx: 6, m0: 5 }, { m0: 6, flags: PF | ZF }],
  ['cmpxchg not equal', [0x0f, 0xb1, 0x1d, ...b4(M)], { eax: 5, ebx: 6, m0: 4 }, { eax: 4, flags: 0 }],
  ['xadd', [0x0f, 0xc1, 0xd8], { eax: 5, ebx: 6 }, { eax: 11, ebx: 5, flags: 0 }],
];

t.test('instructions and flags, computed by hand', async (t) => {
  const cases: Case[] = ROWS.map(([name, code, before]) => ({ name, code, before: { ...before, flags: (before.flags ?? 0) | 2 } }));
  const backend = new SimBackend();
  const results = runCases(backend, cases);
  ROWS.forEach(([name, , before, after], i) => {
    const expected = { ...INITIAL, ...before, ...after };
    expected.flags |= 2;
    t.same(results[i], expected, name);
  });
  backend.close();
});

// --- code of its own, from real mode on ---------------------------------------------------------------------------------

const CODE = 0x1000;

/** A VM with 1 MiB that starts `code` in real mode at 0x1000. */
function realMode(code: readonly number[]): { backend: SimBackend; vm: SimMachine; handle: SimHandle } {
  const backend = new SimBackend();
  backend.hostInit(NULL_GVT_OPS);
  const vm = backend.createMachine({ ram: [{ gpa: 0, size: 0x10_0000 }] }) as SimMachine;
  vm.boot(Gpa(CODE), Uint8Array.from(code));
  const handle = backend.attachVgpu({ id: VgpuId(1), vmId: vm.vmId, bdf: Bdf(0x10) }) as SimHandle;
  return { backend, vm, handle };
}

const peek = (handle: SimHandle, gpa: number, length: number): number[] => {
  const bytes = new Uint8Array(length);
  handle.readGpa(Gpa(gpa), bytes);
  return [...bytes];
};

t.test('real mode: 16-bit operands, segments and interrupts through the vector table', async (t) => {
  const code = [
    ...[0xb8, 0x00, 0x20, 0x8e, 0xd8], // mov ax, 0x2000; mov ds, ax
    ...[0x8e, 0xd0, 0xbc, 0x00, 0x01], // mov ss, ax; mov sp, 0x100
    ...[0xbb, 0x10, 0x00, 0xc7, 0x07, 0x34, 0x12], // mov bx, 0x10; mov word [bx], 0x1234
    ...[0x2e, 0xa1, 0x00, 0x00, 0xa3, 0x20, 0x00], // mov ax, cs:[0]; mov [0x20], ax
    ...[0xcd, 0x40, 0xe6, 0x80], // int 0x40; out 0x80, al
  ];
  const { backend, vm, handle } = realMode(code);
  // Vector 0x40: 0x0300:0x0010, where mov al, 0x77; iret stands.
  handle.writeGpa(Gpa(0x100), Uint8Array.of(0x10, 0x00, 0x00, 0x03));
  handle.writeGpa(Gpa(0x3010), Uint8Array.of(0xb0, 0x77, 0xcf));
  const request = vm.requests.next(1000);
  t.match(request, { kind: IoKind.PIO, write: true, address: 0x80, size: 1 });
  t.equal(request?.value[0], 0x77, 'the handler ran and returned');
  t.same(peek(handle, 0x2_0010, 2), [0x34, 0x12], 'a store goes through DS');
  t.same(peek(handle, 0x2_0020, 2), [0xb8, 0x00], 'a CS override reads the code');
  t.same(peek(handle, 0x2_00fa, 6), [...[0x1a, 0x00], ...[0x00, 0x01], ...[0x02, 0x00]], 'INT pushed IP, CS and FLAGS');
  backend.close();
});

t.test('device accesses: an instruction reads before it changes anything, and runs once', async (t) => {
  const code = [
    ...[0xbf, 0x00, 0x00, 0xb8, 0x00, 0xf0, 0x8e, 0xc0, 0xb0, 0x05], // mov di, 0; mov es, 0xf000; mov al, 5
    ...[0x26, 0x00, 0x05], // add es:[di], al        read-modify-write
    ...[0x0f, 0x92, 0xc3], // setb bl
    ...[0x26, 0x66, 0x8b, 0x4d, 0xfe], // mov ecx, es:[di-2]   across a page
    ...[0xb9, 0x03, 0x00, 0xbe, 0x00, 0x01, 0xf3, 0xa4], // mov cx, 3; mov si, 0x100; rep movsb to the device
    ...[0xf4],
  ];
  const backend = new SimBackend();
  backend.hostInit(NULL_GVT_OPS);
  const vm = backend.createMachine({ ram: [{ gpa: 0, size: 0xf_0000 }] }) as SimMachine;
  vm.boot(Gpa(CODE), Uint8Array.from(code));
  const handle = backend.attachVgpu({ id: VgpuId(1), vmId: vm.vmId, bdf: Bdf(0x10) });
  handle.setTrapArea(Gpa(0xf_0000), Gpa(0xf_ffff), true);
  handle.writeGpa(Gpa(0x100), Uint8Array.of(1, 2, 3));
  const seen: string[] = [];
  for (let request = vm.requests.next(5); request !== undefined; request = vm.requests.next(5)) {
    seen.push(`${request.write ? 'w' : 'r'}${request.size} ${request.address.toString(16)}${request.write ? ` ${request.value[0]}` : ''}`);
    if (!request.write) request.value[0] = 0xfe;
    vm.requests.complete(request);
  }
  t.same(seen, ['r1 f0000', 'w1 f0000 3', 'r2 ffffe', 'r2 100000', 'w1 f0000 1', 'w1 f0001 2', 'w1 f0002 3']);
  t.equal(vm.exitCounts().mmio, 7);
  backend.close();
});

t.test('STI holds interrupts back for one instruction, so STI and HLT leave no gap', async (t) => {
  const code = [
    ...[0xbc, 0x00, 0x08, 0xe6, 0x80], // mov sp, 0x800; out 0x80, al
    ...[0xfb, 0x43, 0x43], // sti; inc bx; inc bx
    ...[0xe6, 0x81],
  ];
  const { backend, vm, handle } = realMode(code);
  handle.writeGpa(Gpa(0x100), Uint8Array.of(0x00, 0x00, 0x00, 0x05)); // vector 0x40: 0x500:0
  handle.writeGpa(Gpa(0x5000), Uint8Array.of(0xe6, 0x82, 0xcf)); // out 0x82, al; iret
  vm.lapic.write(0xf0, 0x1ff);
  const ports: (number | undefined)[] = [];
  for (let i = 0; i < 3; i++) {
    const request = vm.requests.next(100);
    ports.push(request?.address);
    if (i === 0) handle.injectMsi(0xfee0_0000, 0x40);
    if (i === 1) t.same(peek(handle, 0x7fa, 2), [7, 0], 'the interrupt came after the instruction that follows STI');
    if (request !== undefined) vm.requests.complete(request);
  }
  t.same(ports, [0x80, 0x82, 0x81]);
  backend.close();
});

t.test('a mapping that the device removes is gone for the very next load', async (t) => {
  const code = [
    ...[0xb8, 0x00, 0x80, 0x8e, 0xd8, 0x31, 0xf6], // mov ax, 0x8000; mov ds, ax; xor si, si
    ...[0xb9, 0x03, 0x00, 0xba, 0x90, 0x00, 0xf3, 0x6e], // mov cx, 3; mov dx, 0x90; rep outsb
    ...[0xf4],
  ];
  const backend = new SimBackend();
  backend.hostInit(NULL_GVT_OPS);
  const vm = backend.createMachine({ ram: [{ gpa: 0, size: 0x1_0000 }] }) as SimMachine;
  vm.boot(Gpa(CODE), Uint8Array.from(code));
  const handle = backend.attachVgpu({ id: VgpuId(1), vmId: vm.vmId, bdf: Bdf(0x10) });
  const pages = backend.allocateHostPages(1);
  pages.bytes.set([0x11, 0x22, 0x33]);
  handle.mapGfnToMfn(Gfn(0x80), pages.mfn, 1, true);
  const seen: string[] = [];
  for (let request = vm.requests.next(5); request !== undefined; request = vm.requests.next(5)) {
    seen.push(`${IO_KIND_NAMES[request.kind]} ${request.address.toString(16)} ${request.write ? request.value[0]?.toString(16) : ''}`);
    if (seen.length === 1) handle.mapGfnToMfn(Gfn(0x80), pages.mfn, 1, false);
    if (!request.write) request.value[0] = 0x99;
    vm.requests.complete(request);
  }
  t.same(seen, ['pio 90 11', 'mmio 80001 ', 'pio 90 99', 'mmio 80002 ', 'pio 90 99']);
  backend.close();
});

t.test('what the guest cannot do ends its run with a GUEST_FAULT that names EIP and bytes', async (t) => {
  const faults: readonly (readonly [string, readonly number[], RegExp])[] = [
    ['unknown opcode', [0x90, 0x0f, 0xff, 0x12], /does not know this instruction: CS 0x100, EIP 0x1, bytes 0f ff 12/],
    ['jump out of memory', [0x66, 0xea, 0, 0, 0, 0, 0, 0xff], /fetches an instruction where no memory is/],
    ['paging', [0x66, 0xb8, 1, 0, 0, 0x80, 0x0f, 0x22, 0xc0], /paging is not simulated/],
    ['single step', [0x68, 0x00, 0x01, 0x9d], /TF\) is not simulated/],
    [
      'no interrupt table',
      [0x2e, 0x0f, 0x01, 0x1e, 0x08, 0x00, 0xcd, 0x03, 0, 0, 0, 0, 0, 0],
      /shutdown: the interrupt table has no entry for vector 3/,
    ],
  ];
  for (const [name, code, message] of faults) {
    const { backend, vm } = realMode(code);
    t.throws(() => vm.requests.next(100), { code: 'GUEST_FAULT', backend: 'sim', message }, name);
    t.throws(() => vm.requests.next(100), { code: 'GUEST_FAULT', message }, `${name}: it stays so`);
    backend.close();
  }
});

t.test('exceptions go to the guest: divide error and UD2 with the address of the instruction', async (t) => {
  for (const [vector, code] of [
    [0, [0xf6, 0xf3]],
    [6, [0x0f, 0x0b]],
    [13, [...new Array<number>(15).fill(0x66), 0x90]],
  ] as const) {
    // mov sp, 0x800; nop; then the instruction
    const { backend, vm, handle } = realMode([0xbc, 0x00, 0x08, 0x90, ...code]);
    handle.writeGpa(Gpa(vector * 4), Uint8Array.of(0x00, 0x00, 0x00, 0x05));
    handle.writeGpa(Gpa(0x5000), Uint8Array.of(0xe6, 0x81)); // out 0x81, al
    t.equal(vm.requests.next(100)?.address, 0x81, `vector ${vector} reached its handler`);
    t.same(peek(handle, 0x7fa, 4), [4, 0, 0x00, 0x01], 'the pushed address is that of the instruction');
    backend.close();
  }
});

t.test('a guest that loops is cut by the clock, by the instruction budget, and by a stop', async (t) => {
  const loops: readonly (readonly [string, readonly number[]])[] = [
    ['jmp $', [0xeb, 0xfe]],
    ['rep movsb for ever', [0xb9, 0xff, 0xff, 0xf3, 0xa4, 0xeb, 0xf9]],
    ['OUT to the PCI address register', [0xba, 0xf8, 0x0c, 0x66, 0xef, 0xeb, 0xfc]],
    ['cli; hlt', [0xfa, 0xf4]],
  ];
  for (const [name, code] of loops) {
    const { backend, vm } = realMode(code);
    t.equal(vm.requests.next(3), undefined, name);
    t.equal(vm.requests.next(0), undefined, `${name}: without waiting`);
    vm.requests.stop();
    t.equal(vm.requests.next(), undefined, `${name}: stopped`);
    t.ok(vm.requests.stopped);
    backend.close();
  }
  const backend = new SimBackend({ instructionBudget: 100 });
  const vm = backend.createMachine({ ram: [{ gpa: 0, size: 0x1_0000 }] }) as SimMachine;
  vm.boot(Gpa(CODE), Uint8Array.of(0xeb, 0xfe));
  t.equal(vm.requests.next(1e6), undefined);
  t.equal(vm.instructions, 100, 'exactly the budget was executed');
  t.equal(vm.requests.next(1e6), undefined);
  t.equal(vm.instructions, 200);
  backend.close();
});

t.test('misuse of the request source', async (t) => {
  const { backend, vm } = realMode([0xe4, 0x10, 0xe6, 0x11]); // in al, 0x10; out 0x11, al
  const request = vm.requests.next(100);
  t.throws(() => vm.requests.next(100), { code: 'INTERNAL' }, 'next() before complete()');
  t.throws(() => vm.boot(Gpa(CODE), Uint8Array.of(0xf4)), { code: 'BUSY' }, 'boot() before complete()');
  if (request === undefined) throw new Error('no request');
  request.value[0] = 0x1_23;
  vm.requests.complete(request);
  t.throws(() => vm.requests.complete(request), { code: 'INTERNAL' }, 'complete() twice');
  t.equal(vm.requests.next(100)?.value[0], 0x23, 'only the access size of a read value is delivered');
  t.throws(() => vm.boot(Gpa(CODE + 1), Uint8Array.of(0xf4)), { code: 'BUSY' });
  backend.close();
  t.throws(() => vm.requests.next(), { code: 'VM_GONE' });
  t.throws(() => vm.boot(Gpa(CODE), Uint8Array.of(0xf4)), { code: 'CLOSED' });
  t.ok(MptError.is(new MptError('CLOSED', ''), 'CLOSED'));
});
