/** When a boot counts as failed, whatever the job found. */
import type { End } from '../common/qemu-process.js';

/** What is known when QEMU has ended. */
export interface Ending {
  /** The kernel's console. */
  readonly console: string;
  readonly qemu: End;
  /** The job's exit code, as `init` told it. */
  readonly exit?: number;
  /** What the job's first failing part said, if it did. */
  readonly said?: string;
  /** The limit that was passed, in seconds. */
  readonly late?: number;
  /** How a device's server ended before the guest did. */
  readonly server?: string;
}

/** Lines of the kernel's that mean that it found a fault. `WARNING: CPU` is a WARN_ON of its own. */
const FAULTS = [
  /Kernel panic/,
  /\bOops\b/,
  /\bBUG:/,
  /kernel BUG at/,
  /general protection fault/,
  /WARNING: CPU/,
  /self-detected stall/,
  /blocked for more than \d+ seconds/,
];

/** The first line of a console that means a fault, without its time. */
export const faultIn = (console: string): string | undefined =>
  console
    .split('\n')
    .find((line) => FAULTS.some((fault) => fault.test(line)))
    ?.replace(/^\[ *[\d.]+\] /, '')
    .trim();

/** @returns why the boot failed, in one line; nothing when it did not */
export function failureOf({ console, qemu, exit, said, late, server }: Ending): string | undefined {
  if (server !== undefined) return server;
  const fault = faultIn(console);
  if (fault !== undefined) return `the guest's kernel: ${fault}`;
  if (late !== undefined) return `the guest did not end within ${late} s`;
  if (qemu.signal !== null) return `QEMU was killed by ${qemu.signal}`;
  if (qemu.status !== 0) return `QEMU ended with ${qemu.status}: ${qemu.complaint || 'it said nothing'}`;
  const refused = qemu.stderr.split('\n').find((line) => /\bvfio/i.test(line) && !/\bwarning: /.test(line));
  if (refused !== undefined) return `QEMU: ${refused.trim()}`;
  if (exit === undefined) return console.includes('Run /init') ? 'the guest ended before its job did' : 'the guest did not come up';
  if (exit !== 0) return `the job ended with ${exit}${said === undefined ? '' : `: ${said}`}`;
  return undefined;
}
