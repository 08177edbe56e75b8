/** A device's server, `mpt serve`, as users start it, and `mpt display`, which looks at its device. */
import type { ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Connector } from '../../src/core/gvt/display/connector.js';
import { collected, kill, lastLine, run, start, temporary } from '../common/children.js';
import { byLine } from '../common/lines.js';
import { type Picture, readPicture } from './picture.js';

/** What `mpt serve` is asked for. */
export interface Served {
  readonly device: 'gvt' | 'mbochs' | 'mdpy';
  readonly type: string;
  /** Of `gvt`: false fuses the display off. */
  readonly display?: boolean;
  /** Of `gvt`: what the monitor is connected by, instead of HDMI. */
  readonly connector?: Connector;
  /** File to record to. */
  readonly record?: string;
}

const MPT = 'build/src/cli/mpt.js';
const READY_LIMIT_S = 20;
const STOP_LIMIT_S = 10;
const DISPLAY_LIMIT_S = 20;
/** A picture that is not yet right is taken again until then. */
const SHOWS_LIMIT_S = 20;

export class DeviceServer {
  readonly socket: string;
  /** Resolves when it has ended, with how, in one line. */
  readonly ended: Promise<string>;
  readonly #checkout: string;
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #complaints: string[] = [];
  readonly #expected: RegExp[] = [];
  readonly #stderr: () => string;
  #devices: readonly string[] = [];
  #status: number | NodeJS.Signals | undefined;

  private constructor(checkout: string, { device, type, display = true, connector, record }: Served, out: string) {
    this.#checkout = checkout;
    this.#name = `mpt serve --device ${device}`;
    // The path of a socket may have 107 bytes: that of the output folder can be longer.
    this.socket = join(temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-'))), `${device}.sock`);
    const args = [
      MPT,
      'serve',
      '--device',
      device,
      '--type',
      type,
      '--socket',
      this.socket,
      '--json',
      ...(display ? [] : ['--no-display']),
      ...(connector === undefined ? [] : ['--connector', connector]),
      ...(record === undefined ? [] : ['--record', record]),
    ];
    this.#child = start(process.execPath, args, { cwd: checkout, stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(join(out, 'server.log'));
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.on('data', (bytes: Buffer) => log.write(bytes));
    const complaints = byLine((line) => {
      if (line.startsWith('{"type":"complaint"')) this.#complaints.push(line);
    });
    this.#child.stdout?.on('data', complaints);
    this.#stderr = collected(this.#child.stderr);
    this.ended = new Promise((resolve) => {
      this.#child.once('error', ({ message }) => resolve(`${this.#name} did not start: ${message}`));
      this.#child.once('close', (status, signal) => {
        log.end();
        this.#status = status ?? (signal as NodeJS.Signals);
        resolve(`${this.#name} ended with ${this.#status}: ${lastLine(this.#stderr()) || 'it said nothing'}`);
      });
    });
  }

  /** Starts a server. @param out gets `server.log`. @throws Error when it does not become ready */
  static async start(checkout: string, served: Served, out: string): Promise<DeviceServer> {
    const server = new DeviceServer(checkout, served, out);
    const ready = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${server.#name} was not ready within ${READY_LIMIT_S} s`)), READY_LIMIT_S * 1000);
      const first = byLine((line) => {
        clearTimeout(timer);
        resolve(line);
      });
      server.#child.stdout?.on('data', first);
      void server.ended.then((how) => {
        clearTimeout(timer);
        reject(new Error(how));
      });
    });
    server.#devices = devicesOf(server.#name, ready);
    if (!existsSync(server.socket)) throw new Error(`${server.#name} is ready, but there is no socket ${server.socket}`);
    return server;
  }

  /** QEMU's arguments for the device, as the server told them. */
  get devices(): readonly string[] {
    return this.#devices;
  }

  /** Processor time that the server has used, seconds, by the kernel's ticks of 10 ms. */
  get processorSeconds(): number {
    // proc(5): the name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'utf8');
    const [utime, stime] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
      .map(Number) as [number, number];
    return (utime + stime) / 100;
  }

  /** Saves what the device shows. @throws Error with what `mpt display` said */
  async picture(file: string): Promise<Picture> {
    const args = [MPT, 'display', this.socket, '--picture', file];
    const { status, stderr } = await run(process.execPath, args, { cwd: this.#checkout, timeoutS: DISPLAY_LIMIT_S });
    if (status !== 0) throw new Error(`mpt display ended with ${status}: ${lastLine(stderr) || 'it said nothing'}`);
    return readPicture(file);
  }

  /** Changes the device's monitor. @param args of `mpt display`: `--unplug`, `--plug` or `--edid FILE`. @throws Error with what it said */
  monitor(...args: readonly string[]): Promise<void> {
    return this.#order('display', args);
  }

  /** Saves, puts away or exchanges the device's vGPU. @param args of `mpt state`. @throws Error with what it said */
  state(...args: readonly string[]): Promise<void> {
    return this.#order('state', args);
  }

  async #order(command: string, args: readonly string[]): Promise<void> {
    const all = [MPT, command, this.socket, ...args];
    const { status, stderr } = await run(process.execPath, all, { cwd: this.#checkout, timeoutS: DISPLAY_LIMIT_S });
    if (status !== 0) throw new Error(`mpt ${command} ${args.join(' ')} ended with ${status}: ${lastLine(stderr) || 'it said nothing'}`);
  }

  /**
   * Takes pictures until one is as it must be: the guest's driver may draw some time after it was told to.
   * @param mustBe throws what is wrong. @throws Error that of the last picture, which stays in the file, or why there is none
   */
  async shows(file: string, mustBe: (picture: Picture) => void, limitS = SHOWS_LIMIT_S): Promise<void> {
    const end = performance.now() + limitS * 1000;
    for (;;) {
      const picture = await this.picture(file);
      try {
        return mustBe(picture);
      } catch (error) {
        if (performance.now() > end) throw error;
      }
    }
  }

  /** @throws Error with the first thing that it complained of: the guests here do nothing wrong, nor does QEMU */
  mustBeContent(): void {
    const complaints = this.#complaints.filter((complaint) => !this.#expected.some((pattern) => pattern.test(complaint)));
    const [first] = complaints;
    if (first !== undefined) throw new Error(`${complaints.length} complaints, the first ${first}`);
  }

  /** Complaints like this one are what the job is after. */
  expect(pattern: RegExp): void {
    this.#expected.push(pattern);
  }

  /** Asks it to end by SIGTERM. @throws Error when it does not end by itself with 0, or leaves its socket */
  async stop(): Promise<void> {
    if (this.#status !== undefined) throw new Error(`${await this.ended}`);
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => kill(this.#child), STOP_LIMIT_S * 1000);
    const how = await this.ended;
    clearTimeout(timer);
    if (this.#status === 'SIGKILL') throw new Error(`${this.#name} did not end within ${STOP_LIMIT_S} s of SIGTERM`);
    if (this.#status !== 0) throw new Error(how);
    if (existsSync(this.socket)) throw new Error(`${this.#name} left its socket ${this.socket}`);
  }
}

/**
 * The `-device` of the arguments for QEMU in the line that `mpt serve --json` prints when it is ready; the machine and its memory are
 * the guest's.
 */
function devicesOf(name: string, line: string): readonly string[] {
  const notice = line.startsWith('{') ? (JSON.parse(line) as { type?: unknown; qemu?: unknown }) : {};
  const at = Array.isArray(notice.qemu) ? notice.qemu.indexOf('-device') : -1;
  if (notice.type !== 'ready' || at < 0) throw new Error(`the first line of ${name} is no 'ready' with arguments for QEMU: ${line}`);
  return (notice.qemu as string[]).slice(at, at + 2);
}
