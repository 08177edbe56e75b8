/** `mpt daemon`, as an operator starts it: its tree and shells that use it, or vGPUs of its configuration. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { askDaemon } from '../../src/cli/daemon/control-client.js';
import type { VgpuDetails } from '../../src/cli/daemon/info.js';
import { type Outcome, run, temporary } from '../common/children.js';
import { deviceOf } from './guest.js';
import { MptProcess } from './mpt-process.js';

const SHELL_LIMIT_S = 20;

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

export class LabDaemon {
  /** Folder of the tree. */
  readonly tree: string;
  readonly #runtime: string;
  readonly #process: MptProcess;

  private constructor(checkout: string, out: string, { vgpus = [], tree = false }: DaemonSetup) {
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

  /** What it tells of a vGPU, as `mpt show` asks it, but at once: starting a program takes up to a second on a busy machine. */
  show(uuid: string): Promise<VgpuDetails> {
    return askDaemon(join(this.#runtime, 'control.sock'), { op: 'show', uuid });
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
  stop(): Promise<void> {
    return this.#process.stop();
  }
}
