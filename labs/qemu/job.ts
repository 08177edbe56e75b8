/** A job: boots guests, looks at what they do, and has a point for each thing that must be so. */
import { Checks } from '../common/checks.js';
import type { Tell } from '../common/progress.js';
import { Guest, type GuestOptions } from './guest.js';
import { compile } from './programs.js';
import { DeviceServer, type Served } from './server.js';
import type { Trees } from './trees.js';

export interface Job {
  readonly name: string;
  /** Limit of each boot. */
  readonly timeoutS: number;
  /** Not run unless it is asked for by name. */
  readonly onlyByName?: boolean;
  readonly run: (lab: Lab) => Promise<void>;
}

/** How long a job waits for the next thing that its guest says; the first comes after the boot, of seconds on an idle machine. */
export const LINE_LIMIT_S = 60;

/** What a job has to work with. */
export class Lab extends Checks {
  /** Folder of the job's files. */
  readonly out: string;
  readonly #trees: Trees;
  readonly checkout: string;
  readonly #timeoutS: number;
  readonly #keep: boolean;

  constructor(parts: { trees: Trees; checkout: string; out: string; timeoutS: number; keep: boolean; tell: Tell }) {
    super(parts.tell);
    this.out = parts.out;
    this.#trees = parts.trees;
    this.checkout = parts.checkout;
    this.#timeoutS = parts.timeoutS;
    this.#keep = parts.keep;
  }

  /** How QEMU is started. */
  get qemu(): Trees['qemu'] {
    return this.#trees.qemu;
  }

  /** Makes a point of what cannot be looked at here. */
  skip(name: string, reason: string): void {
    this.tell(`skipped: ${name}: ${reason}`);
    this.points.push({ name, status: 'skipped', reason });
  }

  /** Compiles programs for the guest. @returns their paths */
  programs(...names: readonly string[]): Promise<string[]> {
    return Promise.all(names.map((name) => compile(name, `${this.out}/programs`)));
  }

  serve(served: Served): Promise<DeviceServer> {
    return DeviceServer.start(this.checkout, served, this.out);
  }

  /** Starts a guest. @param folder of its files, in the job's */
  boot(options: Omit<GuestOptions, 'out' | 'timeoutS' | 'tell' | 'keep'>, folder = '.'): Guest {
    const out = `${this.out}/${folder}`;
    return Guest.start(this.#trees, { ...options, out, timeoutS: this.#timeoutS, tell: this.tell, keep: this.#keep });
  }

  /**
   * Serves a device, boots a guest with it, does `work`, and waits for both to end as they should: three points of their own.
   * What breaks in `work` is a point too, unless the guest's end tells why.
   */
  async withGuest(
    served: Served,
    options: Omit<GuestOptions, 'out' | 'timeoutS' | 'tell' | 'keep' | 'devices'>,
    work: (guest: Guest, server: DeviceServer) => Promise<void>,
  ): Promise<void> {
    const server = await this.serve(served);
    const guest = this.boot({ ...options, devices: server.devices });
    let over = false;
    void server.ended.then((how) => {
      if (!over) guest.serverEnded(how);
    });
    let broken: Error | undefined;
    try {
      await work(guest, server);
    } catch (error) {
      broken = error as Error;
      // A guest that waits for an answer would wait until its limit.
      guest.kill();
    }
    const failure = await guest.ended;
    over = true;
    await this.check('the guest did its job, without a fault in its kernel, and powered off', () => {
      const why = broken?.message ?? failure;
      if (why !== undefined) throw new Error(why);
    });
    await this.check('the server had no complaint', () => server.mustBeContent());
    await this.check('the server lived until SIGTERM, then ended with 0 and removed its socket', () => server.stop());
  }
}

/** A word for the guest's shell. */
export const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** @throws Error unless both are the same */
export function mustEqual(what: string, got: unknown, wanted: unknown): void {
  if (got !== wanted) throw new Error(`${what} is ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
}

/** Sets `$device` to the folder of the PCI device with these ids, as the guest's shell does it. */
export const findDevice = (vendor: string, device: string): string => `
for device in /sys/bus/pci/devices/*; do
  [ "$(cat $device/vendor):$(cat $device/device)" = ${vendor}:${device} ] && break
  device=
done
[ -n "$device" ] || { echo 'lab: no PCI device ${vendor}:${device}'; exit 1; }
`;
