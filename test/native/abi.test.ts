/**
 * Every number of the ABI tables, asked of the installed C headers by a program that gcc compiles, and compared with the
 * committed golden file. Without gcc or headers the golden file alone is compared.
 *
 * MPT_UPDATE_GOLDEN=1 writes the golden file from the headers.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { EXIT_NAMES, KVM_CONST, KVM_IOCTL, KVM_STRUCT } from '../../src/backends/kvm/abi.js';
import { UDMABUF_CREATE, UDMABUF_CREATE_SIZE, UDMABUF_FLAGS_CLOEXEC } from '../../src/native/device-memory.js';
import {
  EAGAIN,
  EFD,
  EINTR,
  F,
  MAP,
  MFD,
  O,
  POLL,
  PROT,
  SEAL,
  SEEK,
  SIG_BLOCK,
  SIG_SETMASK,
  SIGUSR2,
  signalSet,
} from '../../src/native/syscalls.js';

type Numbers = Record<string, number>;

/** The build folder stands in the repository's root. */
const GOLDEN = fileURLToPath(new URL('../../../test/native/kvm-abi.golden.json', import.meta.url));

const INCLUDES = ['linux/kvm.h', 'linux/udmabuf.h', 'errno.h', 'fcntl.h', 'poll.h', 'signal.h', 'sys/eventfd.h', 'sys/mman.h', 'time.h'];

/** Structure sizes and offsets by `struct tag`, as libc.ts, poll.ts and syscalls.ts lay them out by hand. */
const HAND_LAID: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  'struct sigevent': { size: 64, sigev_value: 0, sigev_signo: 8, sigev_notify: 12, '_sigev_un._tid': 16 },
  'struct itimerspec': { size: 32, 'it_interval.tv_sec': 0, 'it_interval.tv_nsec': 8, 'it_value.tv_sec': 16, 'it_value.tv_nsec': 24 },
  'struct timespec': { size: 16 },
  'struct pollfd': { size: 8, fd: 0, events: 4, revents: 6 },
  sigset_t: { size: signalSet(SIGUSR2).length },
  timer_t: { size: 8 },
  'struct udmabuf_create': { size: UDMABUF_CREATE_SIZE, memfd: 0, flags: 4, offset: 8 },
};

/** Constants that sources use under another name or without one. */
const ELSEWHERE: Numbers = {
  KVM_IRQFD_FLAG_DEASSIGN: 1,
  CLOCK_MONOTONIC: 1,
  SIGEV_THREAD_ID: 4,
  ENOMEM: 12,
};

const prefixed = (prefix: string, table: Readonly<Numbers>): Numbers =>
  Object.fromEntries(Object.entries(table).map(([name, value]) => [`${prefix}${name}`, value]));

const CONSTANTS: Numbers = {
  ...KVM_IOCTL,
  ...KVM_CONST,
  ...prefixed('O_', O),
  ...prefixed('PROT_', PROT),
  ...prefixed('MAP_', MAP),
  ...prefixed('EFD_', EFD),
  ...prefixed('POLL', POLL),
  ...prefixed('MFD_', MFD),
  ...prefixed('F_', F),
  ...prefixed('F_SEAL_', SEAL),
  ...prefixed('SEEK_', SEEK),
  UDMABUF_CREATE,
  UDMABUF_FLAGS_CLOEXEC,
  SIG_BLOCK,
  SIG_SETMASK,
  SIGUSR2,
  EINTR,
  EAGAIN,
  ...ELSEWHERE,
};

const STRUCTS: Readonly<Record<string, Readonly<Numbers>>> = {
  ...Object.fromEntries(Object.entries(KVM_STRUCT).map(([tag, fields]) => [`struct ${tag}`, fields as Numbers])),
  ...HAND_LAID,
};

/** Exit reasons that messages name, by the header's macro. */
const EXITS: Readonly<Record<string, string>> = {
  KVM_EXIT_UNKNOWN: 'unknown',
  KVM_EXIT_EXCEPTION: 'exception',
  KVM_EXIT_HYPERCALL: 'hypercall',
  KVM_EXIT_DEBUG: 'debug',
  KVM_EXIT_HLT: 'halt',
  KVM_EXIT_IRQ_WINDOW_OPEN: 'interrupt window',
  KVM_EXIT_SHUTDOWN: 'shutdown (triple fault)',
  KVM_EXIT_FAIL_ENTRY: 'failed entry',
  KVM_EXIT_TPR_ACCESS: 'TPR access',
  KVM_EXIT_NMI: 'NMI',
  KVM_EXIT_INTERNAL_ERROR: 'internal error',
  KVM_EXIT_SYSTEM_EVENT: 'system event',
  KVM_EXIT_MEMORY_FAULT: 'memory fault',
};

/** Came with Linux 6.8; asked of the headers where they have it, and no part of the golden file, whose headers had not. */
const NEWER: Numbers = { KVM_EXIT_MEMORY_FAULT: 39 };

/** What our tables say, under the names that the C program prints. */
function ours(): Numbers {
  const numbers: Numbers = { ...CONSTANTS };
  for (const [type, { size, ...fields }] of Object.entries(STRUCTS)) {
    numbers[`sizeof(${type})`] = size as number;
    for (const [field, offset] of Object.entries(fields)) numbers[`offsetof(${type}, ${field})`] = offset;
  }
  for (const [reason, name] of Object.entries(EXIT_NAMES)) {
    const macro = Object.keys(EXITS).find((key) => EXITS[key] === name) ?? `exit '${name}'`;
    numbers[macro] = Number(reason);
  }
  return numbers;
}

/** The program: one line of JSON members, in the order of our tables. */
function program(): string {
  const lines = Object.keys(ours()).map((name) => {
    const print = `  printf("%s\\n\\"${name}\\": %llu", n++ ? "," : "", (unsigned long long)(${name}));`;
    return name in NEWER ? `#ifdef ${name}\n${print}\n#endif` : print;
  });
  const includes = ['stddef.h', 'stdio.h', ...INCLUDES].map((file) => `#include <${file}>`);
  return [
    '#define _GNU_SOURCE',
    ...includes,
    'int main(void) {',
    '  int n = 0;',
    '  printf("{");',
    ...lines,
    '  printf("\\n}\\n");',
    '}',
    '',
  ].join('\n');
}

/** The header's numbers, or why they cannot be had. */
function asked(): { numbers: Numbers } | { missing: string } {
  if (spawnSync('gcc', ['--version']).error !== undefined) return { missing: 'no gcc' };
  const header = spawnSync('gcc', ['-E', '-'], { input: INCLUDES.map((file) => `#include <${file}>\n`).join('') });
  if (header.status !== 0) return { missing: 'no C headers (linux/kvm.h, libc)' };
  const directory = mkdtempSync(join(tmpdir(), 'mpt-abi-'));
  try {
    const source = join(directory, 'abi.c');
    const binary = join(directory, 'abi');
    writeFileSync(source, program());
    const compiled = spawnSync('gcc', ['-o', binary, source], { encoding: 'utf8' });
    if (compiled.status !== 0) throw new Error(`gcc refused the generated program:\n${compiled.stderr}`);
    return { numbers: JSON.parse(spawnSync(binary, { encoding: 'utf8' }).stdout) as Numbers };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const headers = process.arch === 'x64' ? asked() : { missing: `the tables are those of x64, this is ${process.arch}` };
if (process.env.MPT_UPDATE_GOLDEN === '1' && 'numbers' in headers) {
  const old = Object.entries(headers.numbers).filter(([name]) => !(name in NEWER));
  writeFileSync(GOLDEN, `${JSON.stringify(Object.fromEntries(old), null, 2)}\n`);
}

t.test('the tables equal the golden file', async (t) => {
  const golden = JSON.parse(readFileSync(GOLDEN, 'utf8')) as Numbers;
  t.same(ours(), { ...golden, ...NEWER });
  t.ok(Object.keys(golden).length > 120, 'all of it');
});

t.test('the tables equal the installed headers', { skip: 'missing' in headers ? headers.missing : false }, async (t) => {
  if (!('numbers' in headers)) return;
  const tables = ours();
  for (const [name, value] of Object.entries(headers.numbers)) t.equal(tables[name], value, name);
  const unasked = Object.keys(tables).filter((name) => !(name in headers.numbers));
  t.same(
    unasked.filter((name) => !(name in NEWER)),
    [],
    'nothing of the tables was left out',
  );
});

t.test('fields lie inside their structures and request numbers name their sizes', async (t) => {
  // The last member may be a flexible array, which starts at the end.
  for (const [tag, { size, ...fields }] of Object.entries(KVM_STRUCT as Readonly<Record<string, Readonly<Numbers>>>))
    for (const [field, offset] of Object.entries(fields)) if (offset > (size as number)) t.fail(`${tag}.${field} lies outside`);
  const sizes: readonly [keyof typeof KVM_IOCTL, number][] = [
    ['KVM_SET_USER_MEMORY_REGION', KVM_STRUCT.kvm_userspace_memory_region.size],
    ['KVM_GET_DIRTY_LOG', KVM_STRUCT.kvm_dirty_log.size],
    ['KVM_SIGNAL_MSI', KVM_STRUCT.kvm_msi.size],
    ['KVM_IRQFD', KVM_STRUCT.kvm_irqfd.size],
    ['KVM_SET_GSI_ROUTING', KVM_STRUCT.kvm_irq_routing.size],
    ['KVM_GET_REGS', KVM_STRUCT.kvm_regs.size],
    ['KVM_SET_REGS', KVM_STRUCT.kvm_regs.size],
    ['KVM_GET_SREGS', KVM_STRUCT.kvm_sregs.size],
    ['KVM_SET_SREGS', KVM_STRUCT.kvm_sregs.size],
    ['KVM_SET_SIGNAL_MASK', KVM_STRUCT.kvm_signal_mask.size],
    ['KVM_SET_CPUID2', KVM_STRUCT.kvm_cpuid2.size],
    ['KVM_GET_SUPPORTED_CPUID', KVM_STRUCT.kvm_cpuid2.size],
  ];
  for (const [request, size] of sizes) t.equal((KVM_IOCTL[request] >>> 16) & 0x3fff, size, request);
});

t.test('signalSet has one bit, where the kernel looks for it', async (t) => {
  for (const signal of [1, 8, 9, 12, 31, 64]) {
    const set = signalSet(signal);
    const bits = [...set].flatMap((byte, i) => [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (byte >> bit) & 1).map((bit) => i * 8 + bit));
    t.same(bits, [signal - 1], `signal ${signal}`);
  }
});
