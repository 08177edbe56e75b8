/** Stopping under load: a vCPU that spins, halts or floods its device thread ends with the thread and the process. */
import t from 'tap';
import { type ChildEnd, describeEnd, runChild } from '../native/child.js';
import { noKvm } from './support.js';

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

t.setTimeout(90_000);

for (const { name, withinMs, signal, endedWell } of WAYS)
  t.test(`${name}: ends within ${withinMs} ms`, { skip: noKvm }, async (t) => {
    for (const guest of GUESTS) {
      const end = await runChild(PROGRAM, {
        args: [guest, name],
        deadlineMs: 10_000,
        ...(signal === undefined ? {} : { onReady: (kill) => kill(signal) }),
      });
      t.ok(end.stdout.startsWith('ready\n') && endedWell(end) && end.ms < withinMs, `${guest}: ${describeEnd(end)}`);
    }
  });
