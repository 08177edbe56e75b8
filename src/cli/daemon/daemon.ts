/**
 * The daemon: the bus with its GPUs, the sockets of the vGPUs, the control socket; later parts are opened after earlier ones and closed before
 * them. What a killed daemon left (sockets, a dead mount) is taken over.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { randomUuid, VgpuBus } from '../../core/bus/index.js';
import { MptError } from '../../core/errors.js';
import { libcSyscalls } from '../../native/libc.js';
import { LockFile } from '../../native/lock-file.js';
import { mountTree } from '../../sysfs/index.js';
import { realServerCalls, removeDeadSocket } from '../../vfio/index.js';
import { serveDisplay } from '../display/socket-server.js';
import { ioError } from '../files.js';
import { controlSocket, type DaemonConfig, type VgpuConfig } from './config.js';
import { serveControl } from './control-server.js';
import { openGpu } from './gpus.js';
import type { Log } from './log.js';
import { SOCKET_NAME, SocketAccess } from './socket-access.js';
import { ThreadHost, type ThreadVgpu } from './thread-host.js';

const FOLDER_MODE = 0o755;

export class Daemon {
  readonly bus = new VgpuBus();
  readonly config: DaemonConfig;
  readonly log: Log;
  /** Folder of the tree; undefined without one. */
  mounted: string | undefined;
  /** Where the metrics are; undefined without. */
  metrics: string | undefined;
  /** What is undone at the end, last first. */
  readonly #undo: (() => void | Promise<void>)[] = [];
  #stopped: Promise<void> | undefined;

  /** @throws MptError BUSY when a daemon has the folder, IO, BAD_CONFIG; everything is undone then */
  static async start(config: DaemonConfig, log: Log): Promise<Daemon> {
    const daemon = new Daemon(config, log);
    try {
      await daemon.#open();
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  private constructor(config: DaemonConfig, log: Log) {
    this.config = config;
    this.log = log;
  }

  /** Ends every vGPU and gives everything back. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#close();
    return this.#stopped;
  }

  async #open(): Promise<void> {
    const { bus, config, log } = this;
    const { runtime, sockets } = config;
    for (const folder of new Set([runtime, sockets.folder])) makeFolder(folder);
    this.#lock();
    takeOverSockets(sockets.folder, log);
    const host = new ThreadHost({ log, trustClient: config.trustClient });
    config.gpus.forEach((gpu, i) => void configured(`/gpus/${i}`, () => bus.registerGpu(openGpu(gpu, host))));
    logEvents(bus, log);
    const access = new SocketAccess({ bus, log, folder: sockets.folder, owner: sockets });
    this.#undo.push(() => access.close());
    bus.registerAccess(access);
    this.#undo.push(() => bus.close());
    this.#undo.push(() => host.close());
    // Nobody shall find a socket after a `process.exit()`, an uncaught exception included.
    const removeSockets = (): void => bus.vgpus.forEach((vgpu) => void access.remove(vgpu));
    process.on('exit', removeSockets);
    this.#undo.push(() => void process.off('exit', removeSockets));
    config.vgpus.forEach((vgpu, i) => void this.#createConfigured(vgpu, i));
    for (const { gpu } of bus.gpus) {
      const display = await serveDisplay(join(runtime, `${gpu}.display`), { picture: async () => this.#foreground(gpu)?.picture() });
      this.#undo.push(() => display.close());
    }
    if (config.metrics !== undefined) {
      const { serveMetrics } = await import('./metrics.js');
      const metrics = await serveMetrics(config.metrics, { bus, host, log });
      this.#undo.push(() => metrics.close());
      this.metrics = metrics.address;
    }
    const control = await serveControl(controlSocket(runtime), bus, log);
    this.#undo.push(() => control.close());
    // Last: a file of ours must not lie under a mount that this very thread answers for.
    if (config.mount !== undefined) this.#mount(config.mount);
  }

  /** Where this machine has no FUSE the daemon goes on without the tree. */
  #mount(folder: string): void {
    const { bus, config, log } = this;
    const server = realpathSync(config.runtime);
    try {
      const tree = mountTree(folder, {
        bus,
        server,
        // The lock of this one is ours: what an earlier one mounted is dead.
        lives: (other) => other !== server && LockFile.held(libcSyscalls, lockFile(other)),
        owner: config.tree,
        newUuid: () => randomUuid(randomBytes(16)),
        onRefused: (path, error) => log.refused('access', error, { path }),
        onUnmounted: () => log.warn('the tree was unmounted by somebody else', { folder }),
      });
      this.#undo.push(() => tree.close());
      log.info('tree mounted', { folder: tree.folder });
      this.mounted = tree.folder;
    } catch (error) {
      if (!MptError.is(error, 'UNAVAILABLE')) throw error;
      log.warn('running without the tree', { folder, why: error.message });
    }
  }

  async #close(): Promise<void> {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop())
      try {
        await undo();
      } catch (error) {
        this.log.refused('part of the stop', error);
      }
  }

  #lock(): void {
    const lock = this.#takeLock();
    if (lock === undefined)
      throw new MptError('BUSY', `another daemon has ${this.config.runtime}`, { op: 'daemon', hint: 'stop it, or name another --runtime' });
    this.#undo.push(() => lock.close());
  }

  #takeLock(): LockFile | undefined {
    const { runtime } = this.config;
    try {
      return LockFile.take(libcSyscalls, lockFile(runtime));
    } catch (error) {
      const { errno } = error as MptError;
      throw new MptError('IO', `${runtime} cannot be used`, {
        op: 'daemon',
        ...(errno === undefined ? {} : { errno }),
        hint: "is it another user's? name a --runtime",
      });
    }
  }

  #createConfigured({ set = {}, ...spec }: VgpuConfig, index: number): void {
    const settings = Object.fromEntries(Object.entries(set).map(([name, value]) => [name, settingText(value)]));
    configured(`/vgpus/${index}`, () => this.bus.create({ ...spec, settings }));
  }

  #foreground(gpu: string): ThreadVgpu | undefined {
    return this.bus.foregroundOf(this.bus.gpu(gpu))?.running as ThreadVgpu | undefined;
  }
}

const lockFile = (runtime: string): string => join(runtime, 'daemon.lock');

/** Makes what an entry of the configuration asks for. @throws MptError BAD_CONFIG with the entry and the reason */
function configured(entry: string, make: () => void): void {
  try {
    make();
  } catch (error) {
    if (!MptError.is(error)) throw error;
    throw new MptError('BAD_CONFIG', `${entry} cannot be created: ${error.message}`, { op: 'daemon', cause: error });
  }
}

const settingText = (value: string | number | boolean): string => (typeof value === 'boolean' ? (value ? '1' : '0') : String(value));

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: FOLDER_MODE });
  } catch (error) {
    throw ioError(error, 'daemon', `the folder ${path} cannot be made`);
  }
}

/** Sockets of vGPUs that a killed daemon had. */
function takeOverSockets(folder: string, log: Log): void {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    throw ioError(error, 'daemon', `the folder ${folder} cannot be read`);
  }
  let removed = 0;
  for (const name of names.filter((candidate) => SOCKET_NAME.test(candidate)))
    try {
      removeDeadSocket(realServerCalls, join(folder, name));
      removed++;
    } catch (error) {
      // Somebody else's: it stays, and who creates that vGPU is told.
      log.refused('stale socket', error);
    }
  if (removed > 0) log.info('sockets of an earlier daemon removed', { count: removed });
}

function logEvents(bus: VgpuBus, log: Log): void {
  bus.on('created', ({ uuid, type, driver, vm }) => log.info('vGPU created', { vgpu: uuid, type, gpu: driver.gpu, vm }));
  bus.on('removed', ({ uuid, type }) => log.info('vGPU removed', { vgpu: uuid, type }));
}
