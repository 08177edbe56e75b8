/**
 * The display socket of a running server: a stream socket that only its user can open, on the main thread. Each connection has at most one
 * answer under way: who reads slowly gets fewer pictures, not more memory.
 */
import type { Socket } from 'node:net';
import { MptError } from '../../core/errors.js';
import type { Picture } from '../../core/vfio/device.js';
import type { MonitorChange } from '../../core/vfio/edid-user.js';
import { PrivateServer } from '../private-server.js';
import {
  type DisplayRequest,
  decodeRequest,
  encodeFrame,
  encodeUpdate,
  FrameReader,
  type MonitorOrder,
  REQUEST_LIMITS,
  type StateOrderRequest,
} from './protocol.js';
import { applyUpdate, updateBetween } from './rows.js';

/** Where pictures come from: the device thread. */
export interface PictureSource {
  /**
   * What the display shows now; undefined when it is off. A picture is valid until the next one is asked for.
   * @throws MptError when the device is gone; watchers are told and hung up
   */
  picture(): Promise<Picture | undefined>;
  /** Plugs the monitor in or out, or another one in. @throws MptError what the device says. Absent: refused */
  changeMonitor?(change: MonitorChange): Promise<void>;
  /** Saves, puts away, brings back or exchanges the device's state. @returns the state where one is asked for. Absent: refused */
  obey?(order: StateOrderRequest): Promise<Uint8Array | undefined>;
}

/** Connections at once, and requests of one that wait. */
const CONNECTIONS_MAX = 32;
const WAITING_MAX = 8;

/**
 * Shows a source's display at `path`, mode 0600. A socket there that nobody answers is replaced.
 * @throws MptError INVALID_ARGUMENT for a path that is too long, BUSY when a server answers there, IO
 */
export function serveDisplay(path: string, source: PictureSource): Promise<PrivateServer> {
  const shared = new SharedPictures(source);
  return PrivateServer.listen(path, {
    op: 'display',
    connections: CONNECTIONS_MAX,
    onConnection: (socket) => void new Connection(socket, shared),
  });
}

/** Those who ask while a picture is being made get that one: all of them look at it before anybody can ask for the next. */
class SharedPictures {
  readonly #source: PictureSource;
  #coming: Promise<Picture | undefined> | undefined;

  constructor(source: PictureSource) {
    this.#source = source;
  }

  picture(): Promise<Picture | undefined> {
    this.#coming ??= this.#source.picture().finally(() => {
      this.#coming = undefined;
    });
    return this.#coming;
  }

  async obey(order: StateOrderRequest): Promise<Uint8Array> {
    if (this.#source.obey === undefined) throw new MptError('UNSUPPORTED', 'this server has nothing that could be saved', { op: 'state' });
    return (await this.#source.obey(order)) ?? new Uint8Array();
  }

  async changeMonitor({ connected, edid }: MonitorOrder): Promise<void> {
    if (this.#source.changeMonitor === undefined)
      throw new MptError('UNSUPPORTED', 'this server has no monitor that could be changed', { op: 'display' });
    await this.#source.changeMonitor({ connected, ...(edid === undefined ? {} : { edid: Buffer.from(edid, 'hex') }) });
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #pictures: SharedPictures;
  readonly #reader = new FrameReader(REQUEST_LIMITS);
  readonly #waiting: DisplayRequest[] = [];
  #open = true;
  /** Ends the pause between two looks. */
  #wake: () => void = () => {};
  #busy = false;

  constructor(socket: Socket, pictures: SharedPictures) {
    this.#socket = socket;
    this.#pictures = pictures;
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#open = false;
      this.#wake();
    });
    socket.on('data', (piece: Buffer) => this.#received(piece));
  }

  #received(piece: Buffer): void {
    try {
      for (const frame of this.#reader.push(piece)) {
        if (this.#waiting.length >= WAITING_MAX)
          throw new MptError('LIMIT', 'too many requests wait for their answer', { op: 'display', limit: WAITING_MAX });
        this.#waiting.push(decodeRequest(frame));
      }
    } catch (error) {
      this.#hangUp(error);
      return;
    }
    if (!this.#busy) void this.#work();
  }

  async #work(): Promise<void> {
    this.#busy = true;
    try {
      for (let request = this.#waiting.shift(); request !== undefined && this.#open; request = this.#waiting.shift())
        if (request.op === 'watch') await this.#watch(request.intervalMs);
        else if (request.op === 'state') await this.#send(encodeFrame({ type: 'state' }, await this.#pictures.obey(request)));
        else {
          if (request.op === 'monitor') await this.#pictures.changeMonitor(request);
          await this.#send(encodeUpdate(updateBetween(null, await this.#pictures.picture()) ?? { type: 'off' }));
        }
    } catch (error) {
      this.#hangUp(error);
    }
    this.#busy = false;
  }

  /** Until the connection ends. Compares with what was sent last: what a slow reader missed comes with the next. */
  async #watch(intervalMs: number): Promise<void> {
    let sent: Picture | undefined | null = null;
    while (this.#open) {
      const update = updateBetween(sent, await this.#pictures.picture());
      if (update !== undefined) {
        const bytes = encodeUpdate(update);
        // Its pixels are the source's, who writes them again.
        sent = applyUpdate(sent ?? undefined, update.type === 'picture' ? { ...update, rgba: update.rgba.slice() } : update);
        await this.#send(bytes);
      }
      if (this.#open) await this.#pause(intervalMs);
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Resolves when the kernel has all of it, or the connection is gone. */
  #send(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => this.#socket.write(bytes, () => resolve()));
  }

  #hangUp(error: unknown): void {
    const told = MptError.is(error) ? error : new MptError('INTERNAL', error instanceof Error ? error.message : String(error));
    this.#waiting.length = 0;
    this.#socket.removeAllListeners('data');
    this.#socket.resume();
    if (this.#open) this.#socket.end(encodeFrame({ type: 'error', error: told.toJSON() }), () => this.#socket.destroy());
  }
}
