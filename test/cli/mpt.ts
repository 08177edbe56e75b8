/** Runs the built `mpt` command as a user does: a process of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const MPT = fileURLToPath(new URL('../../src/cli/mpt.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const TIMEOUT_MS = 60_000;

export const mpt = (...args: string[]): Outcome => run([process.execPath, MPT, ...args], {});

/**
 * The same as an unprivileged user: with uid 65534 when the tests run as root. Through env(1) with an empty environment,
 * because tap hooks child processes by theirs and makes them write files that another user may not.
 */
export const mptAsNobody = (...args: string[]): Outcome =>
  run(['/usr/bin/env', '-i', process.execPath, MPT, ...args], process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {});

function run([command, ...args]: string[], identity: { uid?: number; gid?: number }): Outcome {
  const { status, stdout, stderr } = spawnSync(command as string, args, {
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    maxBuffer: 64 << 20,
    ...identity,
  });
  return { code: status, stdout, stderr };
}

/** The same inside a private mount namespace after `setup` (shell). For what needs another /dev or a full disk. */
export function mptInNamespace(setup: string, ...args: string[]): Outcome {
  const script = `${setup} && exec "$0" "$@"`;
  const { status, stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', script, process.execPath, MPT, ...args], {
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    maxBuffer: 64 << 20,
  });
  return { code: status, stdout, stderr };
}

/** Why namespaces cannot be used here, or undefined. */
export function noNamespaces(): string | undefined {
  const { status, error } = spawnSync('unshare', ['--mount', 'sh', '-c', 'mount -t tmpfs -o size=4k none /mnt'], { encoding: 'utf8' });
  if (error !== undefined) return 'unshare is not installed';
  return status === 0 ? undefined : 'mount namespaces need root';
}

/** Starts the command and sends `signal` when it first writes to stdout; `ms` is the time from the signal to the end. */
export function mptInterrupted(signal: NodeJS.Signals, ...args: string[]): Promise<Outcome & { readonly ms: number }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MPT, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    let sent = 0;
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      if (sent !== 0) return;
      sent = performance.now();
      child.kill(signal);
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    const deadline = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    child.on('close', (code) => {
      clearTimeout(deadline);
      resolve({ code, stdout, stderr, ms: performance.now() - sent });
    });
  });
}

/** The same beside what goes on in this process, as a server that the command talks to. `onOutput` gets all of stdout until now. */
export function mptBeside(args: readonly string[], onOutput?: (stdout: string, child: ChildProcess) => void): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MPT, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      onOutput?.(stdout, child);
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    const deadline = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    child.on('close', (code) => {
      clearTimeout(deadline);
      resolve({ code, stdout, stderr });
    });
  });
}
