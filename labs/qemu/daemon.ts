/** `mpt daemon` with its tree, as an operator starts it, and shells that use the tree. */
import type { ChildProcess } from 'node:child_process';
import { createWriteStream, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { collected, kill, lastLine, type Outcome, run, start, temporary } from '../common/children.js';
import { byLine } from '../common/lines.js';

const MPT = 'build/src/cli/mpt.js';
const READY_LIMIT_S = 20;
const STOP_LIMIT_S = 10;
const SHELL_LIMIT_S = 20;

export class LabDaemon {
  /** Folder of the tree. */
  readonly tree: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<string>;
  #status: number | NodeJS.Signals | undefined;

  /** Starts it. @param out gets `daemon.log`. @throws Error when it does not become ready, or has no tree */
  static async start(checkout: string, out: string): Promise<LabDaemon> {
    const daemon = new LabDaemon(checkout, out);
    const ready = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`mpt daemon was not ready within ${READY_LIMIT_S} s`)), READY_LIMIT_S * 1000);
      const first = byLine((line) => {
        clearTimeout(timer);
        resolve(line);
      });
      daemon.#child.stdout?.on('data', first);
      void daemon.#ended.then((how) => {
        clearTimeout(timer);
        reject(new Error(how));
      });
    });
    if ((JSON.parse(ready) as { mount: unknown }).mount !== daemon.tree) throw new Error(`mpt daemon runs without its tree: ${ready}`);
    return daemon;
  }

  private constructor(checkout: string, out: string) {
    const folder = temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-')));
    this.tree = join(folder, 'sys');
    const args = [MPT, 'daemon', '--runtime', join(folder, 'run'), '--mount', this.tree, '--json'];
    this.#child = start(process.execPath, args, { cwd: checkout, stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(join(out, 'daemon.log'));
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.on('data', (bytes: Buffer) => log.write(bytes));
    const stderr = collected(this.#child.stderr);
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', ({ message }) => resolve(`mpt daemon did not start: ${message}`));
      this.#child.once('close', (status, signal) => {
        log.end();
        this.#status = status ?? (signal as NodeJS.Signals);
        resolve(`mpt daemon ended with ${this.#status}: ${lastLine(stderr()) || 'it said nothing'}`);
      });
    });
  }

  /** Runs a script with plain sh; `$1` is the tree. */
  sh(script: string): Promise<Outcome> {
    return run('sh', ['-eu', '-c', script, 'sh', this.tree], { timeoutS: SHELL_LIMIT_S });
  }

  /** The same where the literal /sys/kernel/gvt is the tree's. */
  acrn(script: string): Promise<Outcome> {
    const setup = 'mount -t tmpfs none /sys/kernel && mkdir /sys/kernel/gvt && mount --bind "$1/kernel/gvt" /sys/kernel/gvt';
    return run('unshare', ['--mount', 'sh', '-eu', '-c', `${setup}\n${script}`, 'sh', this.tree], { timeoutS: SHELL_LIMIT_S });
  }

  /** Asks it to end by SIGTERM. @throws Error when it does not end by itself with 0 */
  async stop(): Promise<void> {
    if (this.#status === undefined) this.#child.kill('SIGTERM');
    const timer = setTimeout(() => kill(this.#child), STOP_LIMIT_S * 1000);
    const how = await this.#ended;
    clearTimeout(timer);
    if (this.#status !== 0) throw new Error(how);
  }
}
