/** Compiles bench/baseline/*.c with gcc, beside the compiled benchmarks. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MptError } from '../src/core/errors.js';
import { AGENT_COMMANDS, AGENT_GPA, AGENT_IMAGE, AGENT_PORT } from '../src/guest/agent.js';

/** Programs and the sources that each is made of. */
const PROGRAMS = {
  exits: ['exits.c', 'agent.c', 'vm.c', 'subject.c'],
  msi: ['msi.c', 'agent.c', 'vm.c', 'subject.c'],
  copies: ['copies.c', 'vm.c', 'subject.c'],
  attach: ['attach.c', 'vm.c', 'subject.c'],
  'cold-start': ['cold-start.c', 'vm.c', 'subject.c'],
} as const;

const FLAGS = ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror'];

export interface Baseline {
  /** Path of a program. */
  program(name: string): string;
  /** File with the guest agent's bytes: the C programs run the guest that we run. */
  readonly image: string;
  /** `gcc --version`'s first line. */
  readonly compiler: string;
}

/** @throws MptError UNAVAILABLE when gcc or the kernel's headers are missing, or a program does not compile */
export function compileBaseline(): Baseline {
  // Two folders up from build/bench/baseline.js; the programs go to build/bench-baseline.
  const sources = fileURLToPath(new URL('../../bench/baseline/', import.meta.url));
  const output = fileURLToPath(new URL('../bench-baseline/', import.meta.url));
  mkdirSync(output, { recursive: true });
  const image = `${output}agent.bin`;
  writeFileSync(image, AGENT_IMAGE);
  writeFileSync(`${output}agent-protocol.h`, protocolHeader());
  const compiler = gcc(['--version']).split('\n', 1)[0] as string;
  for (const [name, files] of Object.entries(PROGRAMS))
    gcc([...FLAGS, '-I', output, '-o', output + name, ...files.map((file) => sources + file)]);
  return { program: (name) => output + name, image, compiler };
}

/** The protocol's numbers, taken from the tables that our side uses. */
function protocolHeader(): string {
  const { burst_read32, burst_write32 } = AGENT_COMMANDS;
  const lines = { AGENT_GPA, AGENT_PORT, AGENT_BURST_READ32: burst_read32.opcode, AGENT_BURST_WRITE32: burst_write32.opcode };
  return Object.entries(lines)
    .map(([name, value]) => `#define ${name} ${value}u\n`)
    .join('');
}

function gcc(args: readonly string[]): string {
  try {
    return execFileSync('gcc', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { code, stderr = '' } = error as { code?: string; stderr?: string };
    if (code === 'ENOENT')
      throw new MptError('UNAVAILABLE', 'gcc is missing, and the baselines are C programs', {
        hint: 'install gcc and the headers of libc and Linux (Debian: gcc libc6-dev linux-libc-dev)',
      });
    const reason = stderr.split('\n').find((line) => line.includes('error')) ?? 'gcc failed';
    throw new MptError('UNAVAILABLE', `a baseline does not compile: ${reason.trim()}`);
  }
}
