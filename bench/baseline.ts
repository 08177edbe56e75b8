/** Compiles the C programs of bench/baseline with gcc, beside the compiled benchmarks. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MptError } from '../src/core/errors.js';
import { AGENT_COMMANDS, AGENT_GPA, AGENT_IMAGE, AGENT_PORT } from '../src/guest/agent.js';

const FLAGS = ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror'];

/** The programs of one backend. */
export interface Sources {
  /** Programs and the sources that each is made of, below bench/baseline. */
  readonly programs: Readonly<Record<string, readonly string[]>>;
  /** Flags for headers and libraries. */
  readonly flags: readonly string[];
  /** What must be installed, for the message. */
  readonly hint: string;
}

export interface Baseline {
  /** Path of a program. */
  program(name: string): string;
  /** File with the guest agent's bytes: the C programs run the guest that we run. */
  readonly image: string;
  /** `gcc --version`'s first line. */
  readonly compiler: string;
}

/** @throws MptError UNAVAILABLE when gcc, headers or libraries are missing, or a program does not compile */
export function compileBaseline({ programs, flags, hint }: Sources): Baseline {
  // Two folders up from build/bench/baseline.js; the programs go to build/bench-baseline.
  const sources = fileURLToPath(new URL('../../bench/baseline/', import.meta.url));
  const output = fileURLToPath(new URL('../bench-baseline/', import.meta.url));
  mkdirSync(output, { recursive: true });
  const image = `${output}agent.bin`;
  writeFileSync(image, AGENT_IMAGE);
  writeFileSync(`${output}agent-protocol.h`, protocolHeader());
  const compiler = gcc(['--version'], hint).split('\n', 1)[0] as string;
  for (const [name, files] of Object.entries(programs))
    gcc([...FLAGS, '-I', output, '-o', output + name, ...files.map((file) => sources + file), ...flags], hint);
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

function gcc(args: readonly string[], hint: string): string {
  try {
    return execFileSync('gcc', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { code, stderr = '' } = error as { code?: string; stderr?: string };
    if (code === 'ENOENT') throw new MptError('UNAVAILABLE', 'gcc is missing, and the baselines are C programs', { hint });
    const reason = stderr.split('\n').find((line) => /error|cannot find/.test(line)) ?? 'gcc failed';
    throw new MptError('UNAVAILABLE', `a baseline does not compile: ${reason.trim()}`, { hint });
  }
}
