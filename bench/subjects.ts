/** The measured programs as child processes: they answer a count with nanoseconds. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { MptError } from '../src/core/errors.js';

/** A program with its arguments. */
export type Command = readonly [program: string, ...args: string[]];

/** One side of a comparison. */
export interface Subject {
  /** Does the work `count` times. @returns nanoseconds that it took. @throws MptError IO when the program ends or fails */
  sample(count: number): Promise<number>;
  /** Ends the program and waits for its end. */
  close(): Promise<void>;
}

const running = new Set<ChildProcessWithoutNullStreams>();

/** Ends every program that is running now; for Ctrl-C. A program that has something to undo does so. */
export function endAll(): void {
  for (const child of running) child.kill('SIGTERM');
}

/** How long a program may take to undo what it did. */
const END_MS = 10_000;

function ended(child: ChildProcessWithoutNullStreams): Promise<void> {
  if (!running.has(child)) return Promise.resolve();
  return new Promise((resolve) => {
    const late = setTimeout(() => child.kill('SIGKILL'), END_MS);
    child.once('close', () => {
      clearTimeout(late);
      resolve();
    });
  });
}

function start([program, ...args]: Command): { child: ChildProcessWithoutNullStreams; answer(): Promise<number> } {
  const child = spawn(program, args, { stdio: 'pipe' });
  running.add(child);
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-2000);
  });
  // A program that died tells why through its exit; writing to it must not raise a second error.
  child.stdin.on('error', () => {});
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const reason = new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) => {
      running.delete(child);
      resolve(complaint.trim().split('\n', 1)[0] || `it ended with ${signal ?? `code ${code}`}`);
    });
  });
  return {
    child,
    async answer() {
      const line = await lines.next();
      if (line.done === true) throw new MptError('IO', `${program} ${args.join(' ')}: ${await reason}`);
      return (JSON.parse(line.value) as { ns: number }).ns;
    },
  };
}

/** A program that lives as long as its row: one count a line in, one document a line out. */
export function longLived(command: Command): Subject {
  const { child, answer } = start(command);
  return {
    sample(count) {
      child.stdin.write(`${count}\n`);
      return answer();
    },
    close() {
      child.stdin.end();
      return ended(child);
    },
  };
}

/** A program that is started anew for each repetition and reports the time since it was started. */
export function started(command: Command): Subject {
  return {
    async sample(count) {
      let ns = 0;
      for (let i = 0; i < count; i++) {
        // The child reads the same clock: neither our event loop nor a pipe is in the time.
        const { child, answer } = start([...command, String(process.hrtime.bigint())] as unknown as Command);
        ns += await answer();
        child.stdin.end();
        await ended(child);
      }
      return ns;
    },
    async close() {},
  };
}
