/** The stand-in: compiled from `labs/acrn/standin`, and started with a program behind it. */
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../common/children.js';
import { EXIT, LabError } from '../common/lab-error.js';

const FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-pthread'];
const COMPILE_LIMIT_S = 120;
/** What must be there, and which of Debian's packages has it. */
const HEADERS = { '/usr/include/linux/acrn.h': 'linux-libc-dev', '/usr/include/linux/kvm.h': 'linux-libc-dev' } as const;

export const ABIS = ['hsm', 'vhm'] as const;
export type Abi = (typeof ABIS)[number];

/** @returns why the stand-in cannot run on this machine, or nothing */
function missing(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the stand-in runs on Linux on x86-64';
  if (process.getuid?.() !== 0) return 'the stand-in looks into the memory of the program that it runs, which only root may';
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return '/dev/kvm is missing or may not be opened: the stand-in runs guests with KVM';
  }
  for (const [header, debian] of Object.entries(HEADERS)) if (!existsSync(header)) return `${header} is missing (Debian: ${debian})`;
  return undefined;
}

/**
 * Compiles the stand-in, if a source is newer than it. @returns the program's path
 * @throws LabError SKIPPED when this machine cannot run it, NO_VERDICT when it does not compile
 */
export async function standin(checkout: string): Promise<string> {
  const reason = missing();
  if (reason !== undefined) throw new LabError(EXIT.SKIPPED, reason);
  const folder = join(checkout, 'build/lab-acrn');
  mkdirSync(folder, { recursive: true });
  return compile(join(checkout, 'labs/acrn/standin'), join(folder, 'standin'));
}

/** Compiles all C files of a folder into one program. */
export async function compile(sources: string, program: string, flags: readonly string[] = []): Promise<string> {
  const files = readdirSync(sources)
    .filter((name) => name.endsWith('.c'))
    .map((name) => join(sources, name));
  // Written apart and renamed: another lab may be running the present one.
  const fresh = `${program}.${process.pid}`;
  const { status, stderr } = await run('gcc', [...FLAGS, ...flags, '-o', fresh, ...files], { timeoutS: COMPILE_LIMIT_S });
  if (/ENOENT/.test(stderr)) throw new LabError(EXIT.SKIPPED, 'gcc is missing (Debian: gcc, libc6-dev)');
  const complaint = stderr.split('\n').find((line) => line.includes('error')) ?? stderr.trim();
  if (status !== 0) throw new LabError(EXIT.NO_VERDICT, `${sources} does not compile: ${complaint}`);
  renameSync(fresh, program);
  return program;
}

/** What the stand-in tells of itself; `leaked` is beyond what it held before the program started. */
export interface Report {
  readonly created: number;
  readonly destroyed: number;
  readonly leaked: Readonly<Record<'fds' | 'threads' | 'mappings', number>>;
  readonly files: readonly unknown[];
  readonly ioctls: Readonly<Record<string, { readonly calls: number; readonly failures: number }>>;
}

export const readReport = (path: string): Report => JSON.parse(readFileSync(path, 'utf8')) as Report;

/** @returns what is left, in words, or nothing */
export function leftovers({ created, destroyed, leaked, files }: Omit<Report, 'ioctls'>): string | undefined {
  const parts = Object.entries(leaked).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  if (created !== destroyed) parts.push(`${created - destroyed} VMs`);
  if (files.length > 0) parts.push(`${files.length} open files`);
  return parts.length === 0 ? undefined : `the stand-in was left with ${parts.join(', ')}`;
}
