/** `mpt daemon`, as an operator starts it: its tree and shells that use it, or vGPUs of its configuration. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastLine, type Outcome, run, temporary } from '../common/children.js';
import { deviceOf } from './guest.js';
import { MPT, MptProcess } from './mpt-process.js';

const ASK_LIMIT_S = 20;

/** A vGPU of the configuration. */
export interface DaemonVgpu {
  readonly uuid: string;
  readonly type: string;
  readonly set: Readonly<Record<string, string | number | boolean>>;
}

export interface DaemonSetup {
  /** Created at the start, on one GPU. */
  readonly vgpus?: readonly DaemonVgpu[];
  /** With the management tree, a FUSE file system. */
  readonly tree?: boolean;
}

/** What `mpt show --json` tells of a vGPU. */
export interface VgpuShown {
  readonly weight: number;
  readonly inUse: boolean;
  readonly statistics: Readonly<Record<string, number>>;
}

export class LabDaemon {
  /** Folder of the tree. */
  readonly tree: string;
  readonly #checkout: string;
  readonly #runtime: string;
  readonly #process: MptProcess;

  private constructor(checkout: string, out: string, { vgpus = [], tree = false }: DaemonSetup) {
    this.#checkout = checkout;
    // The path of a socket may have 107 bytes: that of the output folder can be longer.
    const folder = temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-')));
    this.tree = join(folder, 'sys');
    this.#runtime = join(folder, 'run');
    const args = ['daemon', '--runtime', this.#runtime, '--json', ...(tree ? ['--mount', this.tree] : [])];
    if (vgpus.length > 0) {
      const config = join(out, 'daemon.json');
      writeFileSync(config, JSON.stringify({ gpus: [{ name: '0000:00:02.0', driver: 'i915' }], vgpus }));
      args.push('--config', config);
    }
    this.#process = new MptProcess(args, { name: 'mpt daemon', checkout, log: join(out, 'daemon.log') });
  }

  /** Starts it. @param out gets `daemon.log`. @throws Error when it does not become ready, or has not the tree that it was asked for */
  static async start(checkout: string, out: string, setup: DaemonSetup): Promise<LabDaemon> {
    const daemon = new LabDaemon(checkout, out, setup);
    const ready = await daemon.#process.ready;
    if (setup.tree && (JSON.parse(ready) as { mount: unknown }).mount !== daemon.tree)
      throw new Error(`mpt daemon runs without its tree: ${ready}`);
    return daemon;
  }

  /** Resolves when it has ended, with how, in one line. */
  get ended(): Promise<string> {
    return this.#process.ended;
  }

  /** QEMU's arguments for a vGPU. */
  devices(uuid: string): string[] {
    return deviceOf(join(this.#runtime, `${uuid}.sock`));
  }

  /** What it tells of a vGPU. @throws Error with what `mpt show` said */
  async show(uuid: string): Promise<VgpuShown> {
    const args = [MPT, 'show', uuid, '--runtime', this.#runtime, '--json'];
    const { status, stdout, stderr } = await run(process.execPath, args, { cwd: this.#checkout, timeoutS: ASK_LIMIT_S });
    if (status !== 0) throw new Error(`mpt show ended with ${status}: ${lastLine(stderr) || 'it said nothing'}`);
    return JSON.parse(stdout) as VgpuShown;
  }

  /** Runs a script with plain sh; `$1` is the tree. */
  sh(script: string): Promise<Outcome> {
    return run('sh', ['-eu', '-c', script, 'sh', this.tree], { timeoutS: ASK_LIMIT_S });
  }

  /** The same where the literal /sys/kernel/gvt is the tree's. */
  acrn(script: string): Promise<Outcome> {
    const setup = 'mount -t tmpfs none /sys/kernel && mkdir /sys/kernel/gvt && mount --bind "$1/kernel/gvt" /sys/kernel/gvt';
    return run('unshare', ['--mount', 'sh', '-eu', '-c', `${setup}\n${script}`, 'sh', this.tree], { timeoutS: ASK_LIMIT_S });
  }

  /** Asks it to end by SIGTERM. @throws Error when it does not end by itself with 0 */
  stop(): Promise<void> {
    return this.#process.stop();
  }
}
