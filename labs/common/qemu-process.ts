/** QEMU as a child of the lab. */
import type { ChildProcess } from 'node:child_process';
import { collected, kill, lastLine, start } from './children.js';
import type { Qemu } from './packaged-qemu.js';

/** QEMU's end: an exit status, or the signal that killed it. */
export interface End {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What it said on stderr. */
  readonly stderr: string;
  /** The last of that which says something. */
  readonly complaint: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly kill: () => void;
  readonly ended: Promise<End>;
}

/**
 * setpriv (util-linux): QEMU dies with this process, even when that is killed.
 * @param stdio its descriptors from 0 on; 2 must be `pipe`
 */
export function startQemu(qemu: Qemu, args: readonly string[], stdio: readonly ('ignore' | 'pipe' | number)[]): Running {
  const child = start('setpriv', ['--pdeathsig', 'KILL', '--', ...qemu.command, ...args], {
    stdio: [...stdio],
    env: { ...process.env, ...qemu.env },
  });
  const stderr = collected(child.stderr);
  const ended = new Promise<End>((resolve) => {
    child.once('error', ({ message }) => resolve({ status: 1, signal: null, stderr: '', complaint: message }));
    child.once('close', (status, signal) => {
      const lines = stderr()
        .split('\n')
        .filter((line) => line !== '' && !line.includes("TCG doesn't support requested feature"));
      resolve({ status, signal, stderr: stderr(), complaint: lastLine(lines.join('\n')) });
    });
  });
  return { child, kill: () => kill(child), ended };
}
