/** Domains that the real xl creates in dom0, and what they need: a kernel of a few bytes, a device model that answers nothing. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where the kernel is loaded; it never runs, since the domain is created paused and boots something else. */
const KERNEL_GPA = 0x10_0000;
/** XEN_ELFNOTE_PHYS32_ENTRY (xen/elfnote.h): the 32-bit entry point, which makes an ELF file a PVH kernel. */
const PHYS32_ENTRY = 18;
const [PT_LOAD, PT_NOTE] = [1, 4];

const words = (...values: readonly number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const halves = (...values: readonly number[]): Buffer => Buffer.from(Uint16Array.from(values).buffer);

/** A kernel for PVH: an ELF file (32 bit) of one segment, `hlt; jmp`, and one note. */
function pvhKernel(): Buffer {
  const code = Buffer.of(0xf4, 0xeb, 0xfd);
  const note = Buffer.concat([words(4, 4, PHYS32_ENTRY), Buffer.from('Xen\0'), words(KERNEL_GPA)]);
  const [header, programHeader] = [52, 32];
  const noteAt = header + 2 * programHeader;
  const codeAt = noteAt + note.length;
  const [executable, i386, version] = [2, 3, 1];
  return Buffer.concat([
    // 32 bit, little endian, version 1
    Buffer.of(0x7f, 0x45, 0x4c, 0x46, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    halves(executable, i386),
    // Entry; the program headers follow this header, no section headers; no flags.
    words(version, KERNEL_GPA, header, 0, 0),
    halves(header, programHeader, 2, 0, 0, 0),
    // Elf32_Phdr: type, offset, vaddr, paddr, filesz, memsz, flags, align
    words(PT_LOAD, codeAt, KERNEL_GPA, KERNEL_GPA, code.length, code.length, 5, 1),
    words(PT_NOTE, noteAt, 0, 0, note.length, note.length, 4, 4),
    note,
    code,
  ]);
}

/** Tells libxl that it runs, and answers no access. libxl demands a device model of every HVM domain. */
const NO_DEVICES = `#!/bin/bash
while [ $# -gt 0 ]; do [ "$1" = -d ] && domid=$2; shift; done
xenstore-write "/local/domain/0/device-model/$domid/state" running
exec sleep 1000000
`;

const KINDS = {
  pvh: ['type = "pvh"'],
  // The traditional one is asked for by xenstore alone, without QEMU's monitor.
  hvm: ['type = "hvm"', 'vga = "none"', 'nographic = 1', 'vnc = 0', 'sdl = 0', 'device_model_version = "qemu-xen-traditional"'],
} as const;

export interface Done {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export const program = (name: string, ...args: string[]): Done => spawnSync(name, args, { encoding: 'utf8' });

/** Runs xl. @throws Error with what it said */
export function xl(...args: string[]): string {
  const { status, stdout, stderr } = program('xl', ...args);
  if (status !== 0) throw new Error(`xl ${args.join(' ')} ended with ${status}: ${stderr}`);
  return stdout;
}

/** True when there is an xl that can talk to xenstored. */
export const hasXl = (): boolean => program('xl', 'list').status === 0;

/** `xl create -p`. @returns the domain's id */
export function createPaused(name: string, kind: keyof typeof KINDS): number {
  const folder = mkdtempSync(join(tmpdir(), 'mpt-xl-'));
  const file = (path: string, content: string | Buffer): string => {
    writeFileSync(join(folder, path), content);
    return join(folder, path);
  };
  const kernel = file('kernel', pvhKernel());
  const model = file('device-model', NO_DEVICES);
  chmodSync(model, 0o755);
  const config = [
    `name = "${name}"`,
    ...KINDS[kind],
    kind === 'pvh' ? `kernel = "${kernel}"` : `device_model_override = "${model}"`,
    // With 16 MiB xl finds no room for what it puts beside the RAM.
    'memory = 32',
    '',
  ];
  xl('create', '-p', file('config', config.join('\n')));
  // The device model goes on as long as its domain; its file is read already.
  rmSync(folder, { recursive: true });
  return Number(xl('domid', name));
}

/** A domain's line of `xl list`: id, MiB, vCPUs, state, seconds. */
export function listed(name: string): string[] | undefined {
  return xl('list')
    .split('\n')
    .map((line) => line.split(/\s+/))
    .find(([first]) => first === name)
    ?.slice(1);
}
