/** `mpt display --listen`, as users start it. */
import type { ChildProcess } from 'node:child_process';
import { collected, kill, lastLine, start } from '../common/children.js';
import { byLine } from '../common/lines.js';

const MPT = 'build/src/cli/mpt.js';
const READY_LIMIT_S = 20;
const STOP_LIMIT_S = 10;

export class ViewerProcess {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<string | undefined>;

  private constructor(url: string, child: ChildProcess, ended: Promise<string | undefined>) {
    this.url = url;
    this.#child = child;
    this.#ended = ended;
  }

  /** @param port 0 for any. @throws Error when it does not tell its address */
  static async start(checkout: string, socket: string, port: number): Promise<ViewerProcess> {
    const args = [MPT, 'display', socket, '--listen', String(port), '--json'];
    const child = start(process.execPath, args, { cwd: checkout, stdio: ['ignore', 'pipe', 'pipe'] });
    const stderr = collected(child.stderr);
    const ended = new Promise<string | undefined>((resolve) => {
      child.once('error', ({ message }) => resolve(`mpt display did not start: ${message}`));
      child.once('close', (status) => resolve(status === 0 ? undefined : `mpt display ended with ${status}: ${lastLine(stderr())}`));
    });
    const line = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`mpt display was not ready within ${READY_LIMIT_S} s`)), READY_LIMIT_S * 1000);
      const settle = (use: () => void): void => {
        clearTimeout(timer);
        use();
      };
      child.stdout?.on(
        'data',
        byLine((first) => settle(() => resolve(first))),
      );
      void ended.then((why) => settle(() => reject(new Error(why ?? 'mpt display ended at once'))));
    });
    return new ViewerProcess((JSON.parse(line) as { url: string }).url, child, ended);
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  /** Ctrl-C. @throws Error when it does not end with 0 in time */
  async stop(): Promise<void> {
    this.#child.kill('SIGINT');
    const timer = setTimeout(() => kill(this.#child), STOP_LIMIT_S * 1000);
    const failure = await this.#ended;
    clearTimeout(timer);
    if (failure !== undefined) throw new Error(failure);
  }
}
