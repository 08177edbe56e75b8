/** A device's server, `mpt serve`, as users start it, and `mpt display`, which looks at its device. */
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Connector } from '../../src/core/gvt/display/connector.js';
import type { ShownPlane } from '../../src/core/vfio/device.js';
import { lastLine, run, temporary } from '../common/children.js';
import { MPT, MptProcess } from './mpt-process.js';
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

const DISPLAY_LIMIT_S = 20;
/** A picture that is not yet right is taken again until then. */
const SHOWS_LIMIT_S = 20;

export class DeviceServer {
  readonly socket: string;
  readonly #checkout: string;
  readonly #process: MptProcess;
  readonly #complaints: string[] = [];
  readonly #expected: RegExp[] = [];
  #devices: readonly string[] = [];

  private constructor(checkout: string, { device, type, display = true, connector, record }: Served, out: string) {
    this.#checkout = checkout;
    // The path of a socket may have 107 bytes: that of the output folder can be longer.
    this.socket = join(temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-'))), `${device}.sock`);
    const args = [
      ...['serve', '--device', device, '--type', type, '--socket', this.socket, '--json'],
      ...(display ? [] : ['--no-display']),
      ...(connector === undefined ? [] : ['--connector', connector]),
      ...(record === undefined ? [] : ['--record', record]),
    ];
    this.#process = new MptProcess(args, {
      name: `mpt serve --device ${device}`,
      checkout,
      log: join(out, 'server.log'),
      onLine: (line) => {
        if (line.startsWith('{"type":"complaint"')) this.#complaints.push(line);
      },
    });
  }

  /** Starts a server. @param out gets `server.log`. @throws Error when it does not become ready */
  static async start(checkout: string, served: Served, out: string): Promise<DeviceServer> {
    const server = new DeviceServer(checkout, served, out);
    const { name, ready } = server.#process;
    server.#devices = devicesOf(name, await ready);
    if (!existsSync(server.socket)) throw new Error(`${name} is ready, but there is no socket ${server.socket}`);
    return server;
  }

  /** Resolves when it has ended, with how, in one line. */
  get ended(): Promise<string> {
    return this.#process.ended;
  }

  /** QEMU's arguments for the device, as the server told them. */
  get devices(): readonly string[] {
    return this.#devices;
  }

  /** Processor time that the server has used, seconds, by the kernel's ticks of 10 ms. */
  get processorSeconds(): number {
    // proc(5): the name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
    const stat = readFileSync(`/proc/${this.#process.pid}/stat`, 'utf8');
    const [utime, stime] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
      .map(Number) as [number, number];
    return (utime + stime) / 100;
  }

  /** Saves what the device shows. @throws Error with what `mpt display` said */
  async picture(file: string): Promise<Picture> {
    await this.#order('display', ['--picture', file]);
    return readPicture(file);
  }

  /** The planes of what it shows, as `mpt display` tells of them: what, size, place, tiling. @throws Error with what it said */
  async planes(file: string): Promise<string[]> {
    const { planes } = JSON.parse(await this.#order('display', ['--picture', file, '--json'])) as { planes: readonly ShownPlane[] };
    return planes.map(({ kind, width, height, left, top, tiling }) => `${kind} ${width}x${height} at ${left},${top} ${tiling}`);
  }

  /** Changes the device's monitor. @param args of `mpt display`: `--unplug`, `--plug` or `--edid FILE`. @throws Error with what it said */
  async monitor(...args: readonly string[]): Promise<void> {
    await this.#order('display', args);
  }

  /** Saves, puts away or exchanges the device's vGPU. @param args of `mpt state`. @throws Error with what it said */
  async state(...args: readonly string[]): Promise<void> {
    await this.#order('state', args);
  }

  /** @returns what it printed */
  async #order(command: string, args: readonly string[]): Promise<string> {
    const all = [MPT, command, this.socket, ...args];
    const { status, stdout, stderr } = await run(process.execPath, all, { cwd: this.#checkout, timeoutS: DISPLAY_LIMIT_S });
    if (status !== 0) throw new Error(`mpt ${command} ${args.join(' ')} ended with ${status}: ${lastLine(stderr) || 'it said nothing'}`);
    return stdout;
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
    await this.#process.stop();
    if (existsSync(this.socket)) throw new Error(`${this.#process.name} left its socket ${this.socket}`);
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
