/** Keeps the benchmark and the programs that it starts on one core, and other programs off it as far as may be. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setPriority } from 'node:os';

const NICE = -15;

/** Raises the priority of this process and of those that it starts. @returns what was done, for people */
export function raisePriority(): string {
  try {
    setPriority(NICE);
    return `priority ${NICE}`;
  } catch {
    return 'priority as given (raising it needs root)';
  }
}

/**
 * Lets this process and those that it starts take turns before all others: where sessions are grouped (sched_autogroup), a priority counts
 * only within one's own. @returns what was done, for people
 */
export function takeTurnsFirst(): string {
  const { error, status } = spawnSync('chrt', ['-a', '-r', '-p', '1', String(process.pid)], { stdio: 'ignore' });
  return error === undefined && status === 0 ? 'real-time priority 1' : raisePriority();
}

/**
 * Pins this process, and by inheritance its children, to the last core that it may use.
 * @returns what was done, for people
 */
export function pinToOneCore(): string {
  const core = allowedCores().at(-1);
  if (core === undefined) return 'not pinned: the allowed cores are unknown';
  // taskset is part of util-linux; -a takes all threads of the process.
  const { error, status } = spawnSync('taskset', ['-a', '-c', '-p', String(core), String(process.pid)], { stdio: 'ignore' });
  if (error !== undefined) return 'not pinned: taskset (util-linux) is missing, so expect a wider spread';
  return status === 0 ? `pinned to core ${core}` : `not pinned: taskset ended with ${status}`;
}

/** Cores of `Cpus_allowed_list` (proc_pid_status(5)), as `0-3,8`. */
function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  return list.split(',').flatMap((range) => {
    const [first = Number.NaN, last = first] = range.split('-').map(Number);
    return Number.isInteger(first) && Number.isInteger(last) ? Array.from({ length: last - first + 1 }, (_, i) => first + i) : [];
  });
}
