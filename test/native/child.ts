/** Starting programs of the tests as child processes: what may hang, abort or be killed happens there. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface ChildEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Milliseconds from the first line of its output (or its start) to its end. */
  readonly ms: number;
  /** It did not end within the deadline and was killed. */
  readonly late: boolean;
}

export interface ChildOptions {
  readonly args?: readonly string[];
  readonly execArgv?: readonly string[];
  /** Milliseconds before it is killed. */
  readonly deadlineMs: number;
  /** Called once when it has printed its first line. */
  readonly onReady?: (kill: (signal: NodeJS.Signals) => void) => void;
}

/** Runs a compiled module and waits for its end. */
export function runChild(module: URL, { args = [], execArgv = [], deadlineMs, onReady }: ChildOptions): Promise<ChildEnd> {
  return new Promise((resolve) => {
    // tap loads its tooling into every child, and each of its threads, by NODE_OPTIONS, which its patched spawn puts into any environment:
    // 35 MiB a thread that are not ours.
    const words = ['-u', 'NODE_OPTIONS', process.execPath, ...execArgv, fileURLToPath(module), ...args];
    const child = spawn('env', words, { stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr, late] = ['', '', false];
    let since = performance.now();
    const deadline = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, deadlineMs);
    child.stdout.on('data', (data) => {
      const first = !stdout.includes('\n');
      stdout += data;
      if (!first || !stdout.includes('\n')) return;
      since = performance.now();
      onReady?.((signal) => child.kill(signal));
    });
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.on('close', (code, signal) => {
      clearTimeout(deadline);
      resolve({ code, signal, stdout, stderr, ms: performance.now() - since, late });
    });
  });
}

/** What a test prints of a child that ended badly. */
export const describeEnd = ({ code, signal, late, stderr, ms }: ChildEnd): string =>
  `code ${code}, signal ${signal}${late ? ', killed at the deadline' : ''}, ${Math.round(ms)} ms: ${stderr.slice(0, 300)}`;
