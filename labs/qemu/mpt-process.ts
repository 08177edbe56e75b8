/** An `mpt` command that runs until a signal: ready with its first line, ended by SIGTERM with 0. */
import type { ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { collected, kill, lastLine, start } from '../common/children.js';
import { byLine } from '../common/lines.js';

export const MPT = 'build/src/cli/mpt.js';
const READY_LIMIT_S = 20;
const STOP_LIMIT_S = 10;

export class MptProcess {
  /** The command, for messages. */
  readonly name: string;
  /** Resolves when it has ended, with how, in one line. */
  readonly ended: Promise<string>;
  /** Resolves with its first line. Rejects when it ends without, or takes too long. */
  readonly ready: Promise<string>;
  readonly #child: ChildProcess;
  readonly #stderr: () => string;
  #status: number | NodeJS.Signals | undefined;

  /** Starts it. @param log file of what it says. @param onLine each line of its output */
  constructor(args: readonly string[], parts: { name: string; checkout: string; log: string; onLine?: (line: string) => void }) {
    this.name = parts.name;
    this.#child = start(process.execPath, [MPT, ...args], { cwd: parts.checkout, stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(parts.log);
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.on('data', (bytes: Buffer) => log.write(bytes));
    this.#stderr = collected(this.#child.stderr);
    this.ended = new Promise((resolve) => {
      this.#child.once('error', ({ message }) => resolve(`${this.name} did not start: ${message}`));
      this.#child.once('close', (status, signal) => {
        log.end();
        this.#status = status ?? (signal as NodeJS.Signals);
        resolve(`${this.name} ended with ${this.#status}: ${lastLine(this.#stderr()) || 'it said nothing'}`);
      });
    });
    this.ready = new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${this.name} was not ready within ${READY_LIMIT_S} s`)), READY_LIMIT_S * 1000);
      const take = byLine((line) => {
        clearTimeout(timer);
        resolve(line);
        parts.onLine?.(line);
      });
      this.#child.stdout?.on('data', take);
      void this.ended.then((how) => {
        clearTimeout(timer);
        reject(new Error(how));
      });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Asks it to end by SIGTERM. @throws Error when it does not end by itself with 0 */
  async stop(): Promise<void> {
    if (this.#status !== undefined) throw new Error(await this.ended);
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => kill(this.#child), STOP_LIMIT_S * 1000);
    const how = await this.ended;
    clearTimeout(timer);
    if (this.#status === 'SIGKILL') throw new Error(`${this.name} did not end within ${STOP_LIMIT_S} s of SIGTERM`);
    if (this.#status !== 0) throw new Error(how);
  }
}
