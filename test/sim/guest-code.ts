/** Runs snippets of 32-bit guest code on any backend and reads the registers back: for tests of the interpreter. */
import { Gpa } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { IoKind } from '../../src/core/io-request.js';
import type { Machine } from '../../src/core/machine.js';
import { VgpuId } from '../../src/core/mpt.js';
import type { MptBackend } from '../../src/core/mpt-backend.js';

export interface State {
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
  readonly esi: number;
  readonly edi: number;
  readonly ebp: number;
  readonly esp: number;
  /** Dwords at 0x3000 and 0x3004. */
  readonly m0: number;
  readonly m1: number;
}

export interface Case {
  readonly name: string;
  readonly code: readonly number[];
  /** What differs from `INITIAL`. */
  readonly before?: Partial<State>;
}

const FIELDS = ['flags', 'eax', 'ebx', 'ecx', 'edx', 'esi', 'edi', 'ebp', 'esp', 'm0', 'm1'] as const satisfies readonly (keyof State)[];
const REGISTERS = { eax: 0, ecx: 1, edx: 2, ebx: 3, esp: 4, ebp: 5, esi: 6, edi: 7 } as const;

const LOAD_GPA = 0x8000;
export const MEMORY_GPA = 0x3000;
export const STACK_GPA = 0x4000;
const RESULTS_GPA = 0x10_0000;
const RESULT_BYTES = 64;
const DONE_PORT = 0x80;
const RAM = [{ gpa: 0, size: 0x40_0000 }];

export const INITIAL: State = {
  flags: 2,
  eax: 0,
  ebx: 0,
  ecx: 0,
  edx: 0,
  esi: MEMORY_GPA,
  edi: MEMORY_GPA + 4,
  ebp: MEMORY_GPA,
  esp: STACK_GPA,
  m0: 0,
  m1: 0,
};

const dword = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
const word = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff];

/** From real mode at 0x8000 to flat 32-bit code that follows, with the descriptor table in between. */
function prologue(): number[] {
  const gdt = 0x20;
  const entry = 0x40;
  const code = [
    ...[0xfa], // cli
    ...[0x2e, 0x66, 0x0f, 0x01, 0x16, ...word(gdt + 24)], // lgdt cs:[gdt pointer]
    ...[0x66, 0xb8, ...dword(0x33)], // mov eax, PE | MP | ET | NE
    ...[0x0f, 0x22, 0xc0], // mov cr0, eax
    ...[0x66, 0xea, ...dword(LOAD_GPA + entry), ...word(8)], // jmp 8:entry
  ];
  while (code.length < gdt) code.push(0x90);
  code.push(...new Array<number>(8).fill(0), 0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0, 0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0);
  code.push(...word(23), ...dword(LOAD_GPA + gdt));
  while (code.length < entry) code.push(0x90);
  // mov eax, 0x10; mov ds, es, ss
  return [...code, 0xb8, ...dword(0x10), 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0];
}

function snippet({ code, before }: Case, result: number): number[] {
  const state = { ...INITIAL, ...before };
  const out: number[] = [];
  out.push(0xc7, 0x05, ...dword(MEMORY_GPA), ...dword(state.m0));
  out.push(0xc7, 0x05, ...dword(MEMORY_GPA + 4), ...dword(state.m1));
  out.push(0xbc, ...dword(STACK_GPA), 0x68, ...dword(state.flags), 0x9d); // mov esp; push imm; popfd
  for (const [name, number] of Object.entries(REGISTERS)) out.push(0xb8 + number, ...dword(state[name as keyof typeof REGISTERS]));
  out.push(...code);
  for (const [name, number] of Object.entries(REGISTERS)) {
    const at = result + 4 * FIELDS.indexOf(name as keyof State);
    out.push(0x89, (number << 3) | 5, ...dword(at)); // mov [at], register
  }
  out.push(0xbc, ...dword(STACK_GPA - 0x100), 0x9c, 0x8f, 0x05, ...dword(result)); // mov esp; pushfd; pop [result]
  for (const [field, gpa] of [
    ['m0', MEMORY_GPA],
    ['m1', MEMORY_GPA + 4],
  ] as const)
    out.push(0xa1, ...dword(gpa), 0xa3, ...dword(result + 4 * FIELDS.indexOf(field))); // mov eax, [gpa]; mov [..], eax
  return out;
}

/** The image that runs the cases one after the other and then writes port 0x80. */
export function imageOf(cases: readonly Case[]): Uint8Array {
  const bytes = prologue();
  cases.forEach((each, i) => {
    for (const byte of snippet(each, RESULTS_GPA + i * RESULT_BYTES)) bytes.push(byte);
  });
  bytes.push(0xe6, DONE_PORT, 0xf4); // out 0x80, al; hlt
  return Uint8Array.from(bytes);
}

/** Runs the cases in a VM of the backend and returns the state after each. */
export function runCases(backend: MptBackend, cases: readonly Case[]): State[] {
  if (backend.state === 'created') backend.hostInit(NULL_GVT_OPS);
  const machine = backend.createMachine({ ram: RAM });
  try {
    machine.boot(Gpa(LOAD_GPA), imageOf(cases));
    waitForPort(machine, DONE_PORT);
    const handle = backend.attachVgpu({ id: VgpuId(1), vmId: machine.vmId, bdf: 0x10 as never });
    const bytes = new Uint8Array(cases.length * RESULT_BYTES);
    handle.readGpa(Gpa(RESULTS_GPA), bytes);
    const view = new DataView(bytes.buffer);
    handle.detachVgpu();
    return cases.map((_, i) => {
      const state = FIELDS.map((field, n) => [field, view.getUint32(i * RESULT_BYTES + 4 * n, true)]);
      return Object.fromEntries(state) as unknown as State;
    });
  } finally {
    machine.close();
  }
}

/** Runs until the guest writes the port; other accesses are an error. */
export function waitForPort(machine: Machine, port: number): void {
  const request = machine.requests.next(5000);
  if (request === undefined) throw new Error('the guest did not finish in time');
  const { kind, address, write } = request;
  machine.requests.complete(request);
  if (kind !== IoKind.PIO || address !== port || !write) throw new Error(`unexpected access of kind ${kind} at 0x${address.toString(16)}`);
}
