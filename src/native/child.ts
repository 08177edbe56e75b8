/** Another program that this process starts and ends: without a shell, without its standard streams. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MptError } from '../core/errors.js';

const running = new Set<OwnedChild>();
let exitHooked = false;

/** One program, with a folder of its own for its sockets and its log. Both end with `close()`, at the latest with this process. */
export class OwnedChild {
  /** The folder, mode 0700. */
  readonly folder: string;
  readonly #child: ChildProcess;
  readonly #log: string;
  #failure: string | undefined;
  #open = true;

  /**
   * @param files that it finds in its folder, by name
   * @param command its words; called when the folder is there
   * @throws MptError IO when the program cannot be started
   */
  constructor(files: Readonly<Record<string, Uint8Array>>, command: (folder: string) => readonly string[]) {
    this.folder = mkdtempSync(join(process.env['TMPDIR'] ?? '/tmp', 'mpt-'));
    this.#log = join(this.folder, 'log');
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(this.folder, name), bytes, { mode: 0o600 });
    const [program, ...args] = command(this.folder) as [string, ...string[]];
    const log = openSync(this.#log, 'w', 0o600);
    try {
      this.#child = spawn(program, args, { stdio: ['ignore', log, log] });
    } finally {
      closeSync(log);
    }
    this.#child.on('error', (error) => {
      this.#failure = error.message;
    });
    this.#child.unref();
    if (this.#child.pid === undefined) {
      rmSync(this.folder, { recursive: true, force: true });
      throw new MptError('IO', `${program} cannot be started`, { op: 'spawn', hint: 'is it installed, and is the path right?' });
    }
    running.add(this);
    hookExit();
  }

  /** False once it ended. Asked of the kernel: events would need the event loop. */
  get alive(): boolean {
    try {
      const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'latin1');
      return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
    } catch {
      return false;
    }
  }

  /** What it wrote, for a message: the last line. */
  get lastWords(): string {
    if (this.#failure !== undefined) return this.#failure;
    try {
      return readFileSync(this.#log, 'utf8').trim().split('\n').at(-1) ?? '';
    } catch {
      return '';
    }
  }

  /** Kills it and removes its folder. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    running.delete(this);
    this.#child.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function hookExit(): void {
  if (exitHooked) return;
  exitHooked = true;
  process.on('exit', () => {
    for (const child of running) child.close();
  });
}
