/** A daemon as a user runs it: a process of its own, with a folder of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { askDaemon } from '../../src/cli/daemon/control-client.js';
import type { ControlRequest, ControlResults } from '../../src/cli/daemon/control-protocol.js';
import { VfioUserClient } from '../../src/vfio/client.js';
import { MPT, type Outcome } from '../cli/mpt.js';
import { connectTransport } from '../vfio/sockets.js';

export const uuid = (i: number): string => `83b8f4f2-509f-382f-3c1e-${(0xe6bf_e0fa_1000 + i).toString(16)}`;
/** The first of several that must be there. */
export const first = <T>(list: readonly T[]): T => list[0] as T;

const STOP_LIMIT_MS = 20_000;

/** Without what tap hooks into child processes: it would be loaded into each device thread too. */
const plainEnvironment = (): NodeJS.ProcessEnv => ({ ...process.env, NODE_OPTIONS: '' });

/** The command, without what tap adds to each process. */
export function plainMpt(args: readonly string[], environment: NodeJS.ProcessEnv = {}): Outcome {
  const env = { ...plainEnvironment(), ...environment };
  const { status, stdout, stderr } = spawnSync(process.execPath, [MPT, ...args], { encoding: 'utf8', env });
  return { code: status, stdout, stderr };
}

/** Time for a device thread to start on a busy machine. */
const CLIENT_LIMIT_MS = 20_000;

/** One exit handler for all of a file's daemons. */
const daemons = new Set<{ leave(): void }>();
process.on('exit', () => {
  for (const daemon of daemons) daemon.leave();
});

export interface DaemonSetup {
  readonly config?: Record<string, unknown>;
  readonly args?: readonly string[];
  /** Words in front of the command. */
  readonly wrapper?: readonly string[];
  readonly folder?: string;
  /** Mount the tree in its folder. */
  readonly treeInFolder?: boolean;
}

export class TestDaemon {
  readonly folder: string;
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  stdout = '';
  stderr = '';
  #look: () => void = () => {};

  constructor({ config, args = [], wrapper = [], folder, treeInFolder = false }: DaemonSetup = {}) {
    this.folder = folder ?? mkdtempSync(join(tmpdir(), 'mpt-daemon-'));
    const words = [...wrapper, process.execPath, MPT, 'daemon', '--runtime', this.runtime, ...args];
    if (treeInFolder) words.push('--mount', this.tree);
    if (config !== undefined) {
      const file = join(this.folder, 'config.json');
      writeFileSync(file, JSON.stringify(config));
      words.push('--config', file);
    }
    this.child = spawn(words[0] as string, words.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env: plainEnvironment() });
    const take = (name: 'stdout' | 'stderr') => (chunk: Buffer) => {
      this[name] += chunk;
      this.#look();
    };
    this.child.stdout?.on('data', take('stdout'));
    this.child.stderr?.on('data', take('stderr'));
    daemons.add({ leave: () => this.#leave(folder === undefined) });
    this.ended = new Promise((resolve) => {
      this.child.on('close', (code) => {
        this.#look();
        resolve(code);
      });
    });
  }

  /** Starts one and waits until it is ready; it is stopped and its folder removed with the test. */
  static async ready(t: Test, setup: DaemonSetup = {}): Promise<TestDaemon> {
    const daemon = new TestDaemon(setup);
    t.teardown(async () => {
      await daemon.stop();
      rmSync(daemon.folder, { recursive: true, force: true });
    });
    await daemon.until(/^ready|"ready"/m);
    return daemon;
  }

  /** A test that ran out of time: the daemon ends by itself, and takes its mount away. */
  #leave(ownFolder: boolean): void {
    if (this.#lives) this.child.kill('SIGTERM');
    else if (ownFolder) rmSync(this.folder, { recursive: true, force: true });
  }

  get #lives(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  get runtime(): string {
    return join(this.folder, 'run');
  }

  get tree(): string {
    return join(this.folder, 'sys');
  }

  /** What lies in its folder, but the lock. */
  get left(): string[] {
    return readdirSync(this.runtime)
      .filter((name) => name !== 'daemon.lock')
      .sort();
  }

  /** Resolves when its output or log has this; rejects when it ended without. */
  until(pattern: RegExp): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#look = () => {
        if (pattern.test(this.stdout) || pattern.test(this.stderr)) resolve();
        else if (!this.#lives) reject(new Error(`no ${pattern} in: ${this.stdout} ${this.stderr}`));
      };
      this.#look();
    });
  }

  ask<R extends ControlRequest>(request: R): Promise<ControlResults[R['op']]> {
    return askDaemon(join(this.runtime, 'control.sock'), request);
  }

  /** The command, talking to this daemon. */
  run(...args: string[]): Outcome {
    return plainMpt([...args, '--runtime', this.runtime]);
  }

  async available(type: string): Promise<number> {
    const found = (await this.ask({ op: 'types' })).find(({ name }) => name === type);
    if (found === undefined) throw new Error(`no type ${type}`);
    return found.available;
  }

  /** A client of a vGPU, past its greeting: the device runs when this returns. */
  client(id: string): VfioUserClient {
    const client = new VfioUserClient(connectTransport(join(this.runtime, `${id}.sock`)), { timeoutMs: CLIENT_LIMIT_MS });
    client.version();
    return client;
  }

  /** @returns its exit code */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.#lives) {
      this.child.kill(signal);
      const late = setTimeout(() => this.child.kill('SIGKILL'), STOP_LIMIT_MS);
      await this.ended;
      clearTimeout(late);
    }
    return this.ended;
  }
}
