/** Programs that the lab starts. Each has a process group of its own, and none outlives the lab. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import type { Readable } from 'node:stream';

const running = new Set<ChildProcess>();
const folders = new Set<string>();

/** Starts a program that is killed, with all that it started, when this process ends. */
export function start(program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(program, args, { ...options, detached: true });
  running.add(child);
  child.once('close', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

export function kill(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It ended in the meantime.
  }
}

/** A folder that is removed when this process ends, unless it has been renamed by then. */
export function temporary(folder: string): string {
  folders.add(folder);
  return folder;
}

/** Removes a folder in which programs that were killed a moment ago may still write. */
export const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });

process.on('exit', () => {
  for (const child of running) kill(child);
  for (const folder of folders) remove(folder);
});

export interface Outcome {
  /** Exit status, or -1 when it was killed, did not start or took too long. */
  readonly status: number;
  readonly stdout: string;
  /** Its stderr, or why it did not run to its end. */
  readonly stderr: string;
}

/** Collects what comes out of a stream. @returns what has come until now */
export function collected(stream: Readable | null): () => string {
  const pieces: string[] = [];
  stream?.setEncoding('utf8').on('data', (text: string) => pieces.push(text));
  return () => pieces.join('');
}

/** Runs a program to its end and collects what it says. Never rejects. */
export function run(program: string, args: readonly string[], options: SpawnOptions & { timeoutS?: number } = {}): Promise<Outcome> {
  const { timeoutS, ...rest } = options;
  return new Promise((resolve) => {
    const child = start(program, args, { ...rest, stdio: ['ignore', 'pipe', 'pipe'] });
    const stdout = collected(child.stdout);
    const stderr = collected(child.stderr);
    let late = false;
    const timer =
      timeoutS &&
      setTimeout(() => {
        late = true;
        kill(child);
      }, timeoutS * 1000);
    const end = (status: number, complaint = ''): void => {
      clearTimeout(timer);
      resolve({ status, stdout: stdout(), stderr: stderr() + complaint });
    };
    child.once('error', ({ message }) => end(-1, message));
    child.once('close', (status) => end(status ?? -1, late ? `\n${program} did not end within ${timeoutS} s` : ''));
  });
}

/** Runs a program that must succeed. @throws Error with its last line of stderr */
export async function must(program: string, args: readonly string[], options: SpawnOptions & { timeoutS?: number } = {}): Promise<string> {
  const { status, stdout, stderr } = await run(program, args, options);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${lastLine(stderr) || `it ended with ${status}`}`);
  return stdout;
}

export const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1) as string;
