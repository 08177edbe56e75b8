/**
 * The vfio-user server as an access driver: each vGPU that is online has a socket, at which the main loop listens. The first client starts the
 * vGPU's device; as long as it is there others are sent away.
 */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { AccessDriver, Vgpu, VgpuBus } from '../../core/bus/index.js';
import { errnoText, MptError } from '../../core/errors.js';
import { WatchSet } from '../../native/watch.js';
import { realServerCalls, SocketListener, type SocketOwner } from '../../vfio/index.js';
import { displaySocketPath } from '../display/protocol.js';
import { serveDisplay } from '../display/socket-server.js';
import type { PrivateServer } from '../private-server.js';
import type { Log } from './log.js';
import type { ClientAttachment, ThreadVgpu } from './thread-host.js';

export interface SocketAccessOptions {
  readonly bus: VgpuBus;
  readonly log: Log;
  /** Folder of the sockets. */
  readonly folder: string;
  readonly owner: SocketOwner;
}

/** EMFILE and the like stay until something is closed: no loop that asks again at once. */
const PAUSE_MS = 1000;
const GONE_AGAIN: readonly number[] = [-4, -11, -103];

export class SocketAccess implements AccessDriver {
  readonly name = 'vfio-user';
  readonly #options: SocketAccessOptions;
  readonly #watched = new WatchSet();
  readonly #listeners = new Map<Vgpu, SocketListener>();
  /** When it was last told of a client that was sent away. */
  readonly #told = new WeakMap<Vgpu, number>();
  /** vGPUs for whose device's end a next client waits. */
  readonly #followed = new Set<Vgpu>();
  /** Display sockets that close. */
  readonly #closing = new Map<Vgpu, Promise<void>>();

  /** @throws MptError HYPERVISOR */
  constructor(options: SocketAccessOptions) {
    this.#options = options;
  }

  probe(vgpu: Vgpu): void {
    const { folder, owner } = this.#options;
    const listener = new SocketListener(realServerCalls, join(folder, socketName(vgpu.uuid)), owner);
    const watched = this.#watched.add(listener.fd, () => this.#accept(vgpu, listener));
    if (watched < 0) {
      listener.close();
      throw new MptError('HYPERVISOR', `the socket of ${vgpu.uuid} cannot be waited for`, { op: 'epoll_ctl', errno: -watched });
    }
    this.#listeners.set(vgpu, listener);
  }

  remove(vgpu: Vgpu): void {
    const listener = this.#listeners.get(vgpu);
    if (listener === undefined) return;
    this.#listeners.delete(vgpu);
    this.#watched.remove(listener.fd);
    listener.close();
  }

  address(vgpu: Vgpu): string | undefined {
    return this.#listeners.get(vgpu)?.path;
  }

  /** After the bus: nobody is served any more. */
  async close(): Promise<void> {
    this.#watched.close();
    await Promise.all(this.#closing.values());
  }

  #accept(vgpu: Vgpu, listener: SocketListener): void {
    const { log } = this.#options;
    const connection = listener.accept(0);
    if (connection < 0) {
      if (GONE_AGAIN.includes(connection)) return;
      log.error('client not accepted', { vgpu: vgpu.uuid, errno: errnoText(-connection) });
      this.#pause(vgpu, listener);
      return;
    }
    // The last client has gone, and its device will in a moment: one is not sent away for that, more are.
    const ending = vgpu.inUse ? undefined : vgpu.running?.ended;
    if (ending === undefined) this.#start(vgpu, connection, listener.path);
    else if (this.#followed.has(vgpu)) closeSync(connection);
    else {
      this.#followed.add(vgpu);
      void ending.then(() => {
        this.#followed.delete(vgpu);
        this.#start(vgpu, connection, listener.path);
      });
    }
  }

  #start(vgpu: Vgpu, connection: number, path: string): void {
    const { log, bus } = this.#options;
    const attachment: ClientAttachment = { connection, priority: vgpu.priority, name: vgpu.uuid };
    try {
      const running = bus.start(vgpu, attachment) as ThreadVgpu;
      log.info('client connected', { vgpu: vgpu.uuid, type: vgpu.type });
      this.#serve(vgpu, running, connection, displaySocketPath(path));
    } catch (error) {
      closeSync(connection);
      this.#tellRefused(vgpu, error);
    }
  }

  /** At a limited rate: a client may try again as fast as it can. */
  #tellRefused(vgpu: Vgpu, error: unknown): void {
    const now = performance.now();
    if (now - (this.#told.get(vgpu) ?? Number.NEGATIVE_INFINITY) < PAUSE_MS) return;
    this.#told.set(vgpu, now);
    this.#options.log.refused('client', error, { vgpu: vgpu.uuid });
  }

  #serve(vgpu: Vgpu, running: ThreadVgpu, connection: number, displayPath: string): void {
    const { log } = this.#options;
    // The last client's is at the same path.
    const before = this.#closing.get(vgpu) ?? Promise.resolve();
    const display = before
      .then(() => serveDisplay(displayPath, running))
      .catch((error: unknown): PrivateServer | undefined => {
        log.refused('display socket', error, { vgpu: vgpu.uuid });
        return undefined;
      });
    void running.ended.then((why) => {
      closeSync(connection);
      log.info('client gone', { vgpu: vgpu.uuid, why });
      const closing = display.then((server) => server?.close());
      this.#closing.set(vgpu, closing);
      void closing.finally(() => {
        if (this.#closing.get(vgpu) === closing) this.#closing.delete(vgpu);
      });
    });
  }

  #pause(vgpu: Vgpu, listener: SocketListener): void {
    this.#watched.remove(listener.fd);
    setTimeout(() => {
      if (this.#listeners.get(vgpu) === listener) this.#watched.add(listener.fd, () => this.#accept(vgpu, listener));
    }, PAUSE_MS).unref();
  }
}

export const socketName = (uuid: string): string => `${uuid}.sock`;
/** Sockets that a vGPU may leave when the daemon is killed. */
export const SOCKET_NAME = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.sock(\.display)?$/;
