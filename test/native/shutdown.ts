/** Stopping under load: a guest that spins, halts or floods its device thread ends with the thread and the process. */
import type { Test } from 'tap';
import { type ChildEnd, describeEnd, runChild } from './child.js';

const GUESTS = ['spin', 'halt', 'halt, timed', 'mmio flood', 'string flood'];
const PROGRAM = new URL('./shutdown-program.js', import.meta.url);

interface Way {
  readonly name: string;
  /** Milliseconds from `ready` to the end of the process. */
  readonly withinMs: number;
  readonly signal?: NodeJS.Signals;
  readonly endedWell: (end: ChildEnd) => boolean;
}

const WAYS: readonly Way[] = [
  { name: 'stop', withinMs: 1000, endedWell: ({ code, stdout }) => code === 0 && stdout === 'ready\nworker ended with 0\n' },
  { name: 'exit', withinMs: 2000, endedWell: ({ code }) => code === 7 },
  { name: 'throw', withinMs: 2000, endedWell: ({ code, stderr }) => code === 1 && stderr.includes('not caught') },
  { name: 'SIGTERM', withinMs: 2000, signal: 'SIGTERM', endedWell: ({ signal }) => signal === 'SIGTERM' },
  { name: 'SIGINT', withinMs: 2000, signal: 'SIGINT', endedWell: ({ signal }) => signal === 'SIGINT' },
];

/** @param options of the backend */
export function endsWithItsProcess(t: Test, backend: string, options: Record<string, unknown>, skip: string | false): void {
  for (const { name, withinMs, signal, endedWell } of WAYS)
    t.test(`${name}: ends within ${withinMs} ms`, { skip }, async (t) => {
      for (const guest of GUESTS) {
        const end = await runChild(PROGRAM, {
          args: [guest, name, backend, JSON.stringify(options)],
          deadlineMs: 10_000,
          ...(signal === undefined ? {} : { onReady: (kill) => kill(signal) }),
        });
        t.ok(end.stdout.startsWith('ready\n') && endedWell(end) && end.ms < withinMs, `${guest}: ${describeEnd(end)}`);
      }
    });
}
