/** One boot: QEMU with a guest, what the guest says, what the lab answers. */
import { createWriteStream, mkdirSync, readFileSync, rmSync, type WriteStream, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { byLine } from '../common/lines.js';
import type { Qemu } from '../common/packaged-qemu.js';
import { seconds, type Tell } from '../common/progress.js';
import { type End, type Running, startQemu } from '../common/qemu-process.js';
import { type GuestFiles, initramfs } from './initramfs.js';
import { GUEST_TREE, type Trees } from './trees.js';
import { failureOf } from './verdict.js';

export interface GuestOptions extends GuestFiles {
  /** QEMU arguments of the devices. */
  readonly devices: readonly string[];
  /** Added to the kernel's command line. */
  readonly append?: string;
  /** Added to those of the machine. */
  readonly machine?: readonly string[];
  /** Folder for `console.log`, `control.log`, `qemu.log` and `qemu.txt`. */
  readonly out: string;
  readonly timeoutS: number;
  readonly tell: Tell;
  /** Keep the initramfs, so that the line in `qemu.txt` boots the same again. */
  readonly keep?: boolean;
  /** Gets what the job prints, line by line. */
  readonly print?: (line: string) => void;
}

const MEMORY_MIB = 512;
/** A device's server can only map memory that has a file, and only see what the guest writes if it is shared. */
const MACHINE = [
  ...['-machine', 'q35,memory-backend=ram', '-object', `memory-backend-memfd,id=ram,size=${MEMORY_MIB}M,share=on`],
  ...['-m', String(MEMORY_MIB), '-accel', 'tcg', '-smp', '1', '-nodefaults', '-no-reboot', '-display', 'none', '-monitor', 'none'],
];
/** A panic reboots at once, which ends QEMU. */
const KERNEL_COMMAND_LINE = 'console=ttyS0 panic=-1 loglevel=7 consoleblank=0';
const SAID = /^lab: (.*)$/;

/** QEMU's arguments for a guest. @param tree the guest's */
export const argumentsOf = (tree: string, { devices, machine = [], append, out }: GuestOptions, initrd: string): string[] => [
  ...MACHINE,
  ...machine,
  ...['-serial', `file:${join(out, 'console.log')}`, '-chardev', 'stdio,id=control,signal=off', '-serial', 'chardev:control'],
  ...['-kernel', join(tree, GUEST_TREE.KERNEL), '-initrd', initrd],
  ...['-append', [KERNEL_COMMAND_LINE, append].filter(Boolean).join(' ')],
  ...devices,
];

/** QEMU's arguments for the device of a server. @param socket where that listens */
export const deviceOf = (socket: string): string[] => [
  ...['-device', JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path: socket } })],
];

interface Waiting {
  readonly pattern: RegExp;
  readonly found: (match: RegExpExecArray) => void;
  readonly gone: (why: string) => void;
}

export class Guest {
  /** Resolves when QEMU has ended, with why the boot failed; with nothing when it did not. */
  readonly ended: Promise<string | undefined>;
  readonly #machine: Running;
  readonly #options: GuestOptions;
  readonly #control: WriteStream;
  readonly #began = performance.now();
  /** Lines that nobody waited for yet. */
  readonly #lines: string[] = [];
  #waiting: Waiting | undefined;
  #exit: number | undefined;
  #said: string | undefined;
  #late: number | undefined;
  #server: string | undefined;
  #over: string | undefined;
  #onlyJobFailed = false;

  private constructor(qemu: Qemu, args: readonly string[], options: GuestOptions) {
    this.#options = options;
    this.#control = createWriteStream(join(options.out, 'control.log'));
    this.#machine = startQemu(qemu, args, ['pipe', 'pipe', 'pipe']);
    const { child } = this.#machine;
    // QEMU may end while a line is on its way: that shows in its end.
    child.stdin?.on('error', () => {});
    child.stdout?.on('data', (bytes: Buffer) => this.#control.write(bytes));
    child.stdout?.on(
      'data',
      byLine((line) => this.#take(line.replace(/\r$/, ''))),
    );
    const timer = setTimeout(() => {
      this.#late = options.timeoutS;
      this.#machine.kill();
    }, options.timeoutS * 1000);
    this.ended = this.#machine.ended.then((end) => {
      clearTimeout(timer);
      return this.#end(end);
    });
  }

  /** Starts QEMU. */
  static start({ guest, qemu }: Trees, options: GuestOptions): Guest {
    mkdirSync(options.out, { recursive: true });
    const initrd = join(options.out, 'initramfs');
    writeFileSync(initrd, initramfs(guest, options));
    writeFileSync(join(options.out, 'console.log'), '');
    const args = argumentsOf(guest, options, initrd);
    writeFileSync(join(options.out, 'qemu.txt'), commandLine(qemu, args));
    const started = new Guest(qemu, args, options);
    if (!options.keep) void started.ended.then(() => rmSync(initrd));
    return started;
  }

  /** Seconds since QEMU was started, to a tenth. */
  get seconds(): number {
    return seconds(this.#began);
  }

  /** The same in milliseconds. */
  get milliseconds(): number {
    return performance.now() - this.#began;
  }

  /** The exit code that the job ended with, when the boot failed for no other reason. */
  get jobExit(): number | undefined {
    return this.#onlyJobFailed ? this.#exit : undefined;
  }

  get late(): boolean {
    return this.#late !== undefined;
  }

  /** The kernel's console until now. */
  get console(): string {
    return readFileSync(join(this.#options.out, 'console.log'), 'latin1');
  }

  /**
   * Waits for the job to print a line like `pattern`; lines before it are passed over.
   * @throws Error when the guest ended, or the time passed, without one
   */
  line(pattern: RegExp, timeoutS: number): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => {
        clearTimeout(timer);
        this.#waiting = undefined;
        reject(new Error(`the guest did not say ${pattern}: ${why}`));
      };
      const timer = setTimeout(() => fail(`${timeoutS} s passed`), timeoutS * 1000);
      const found = (match: RegExpExecArray): void => {
        clearTimeout(timer);
        resolve(match);
      };
      this.#waiting = { pattern, found, gone: fail };
      this.#match();
      if (this.#waiting !== undefined && this.#over !== undefined) fail(this.#over);
    });
  }

  /** Gives a line to the job's `read`. */
  answer(line: string): void {
    this.#machine.child.stdin?.write(`${line}\n`);
  }

  /** Ends the boot: a device's server is gone. @param how it ended */
  serverEnded(how: string): void {
    this.#server ??= how;
    this.#machine.kill();
  }

  kill(): void {
    this.#machine.kill();
  }

  #take(line: string): void {
    const words = SAID.exec(line)?.[1];
    const exit = /^exit (\d+)$/.exec(words ?? '')?.[1];
    if (exit !== undefined) this.#exit = Number(exit);
    else if (words?.startsWith('up ')) this.#options.tell(`guest up after ${this.seconds} s`);
    else if (words !== undefined) this.#said ??= words;
    if (words === undefined) this.#options.print?.(line);
    this.#lines.push(line);
    this.#match();
  }

  #match(): void {
    for (let line = this.#lines.shift(); line !== undefined; line = this.#lines.shift()) {
      const waiting = this.#waiting;
      if (waiting === undefined) {
        this.#lines.unshift(line);
        return;
      }
      const match = waiting.pattern.exec(line);
      if (match === null) continue;
      this.#waiting = undefined;
      waiting.found(match);
      return;
    }
  }

  #end(qemu: End): string | undefined {
    this.#control.end();
    writeFileSync(join(this.#options.out, 'qemu.log'), qemu.stderr);
    const known = { exit: this.#exit, said: this.#said, late: this.#late, server: this.#server };
    const failure = failureOf({ console: this.console, qemu, ...defined(known) });
    this.#onlyJobFailed = failureOf({ console: this.console, qemu, ...defined(known), exit: 0 }) === undefined;
    this.#over = failure ?? 'it ended';
    this.#waiting?.gone(this.#over);
    return failure;
  }
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

const defined = <T extends object>(fields: T): Defined<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Defined<T>;

/** For a shell. */
function commandLine({ command, env }: Qemu, args: readonly string[]): string {
  const quoted = (word: string): string => (/^[\w./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  return `${[...Object.entries(env).map(([name, value]) => `${name}=${quoted(value)}`), ...[...command, ...args].map(quoted)].join(' ')}\n`;
}
