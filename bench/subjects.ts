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
  close(): void;
}

const running = new Set<ChildProcessWithoutNullStreams>();

/** Ends every program that is running now; for Ctrl-C. */
export function endAll(): void {
  for (const child of running) child.kill('SIGKILL');
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
  const ended = new Promise<string>((resolve) => {
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
      if (line.done === true) throw new MptError('IO', `${program} ${args.join(' ')}: ${await ended}`);
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
        await new Promise((resolve) => (running.has(child) ? child.once('close', resolve) : resolve(undefined)));
      }
      return ns;
    },
    close() {},
  };
}
