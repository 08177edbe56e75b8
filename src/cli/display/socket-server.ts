/**
 * The display socket of a running server: a stream socket that only its user can open, on the main thread. Each connection has at most one
 * answer under way: who reads slowly gets fewer pictures, not more memory.
 */
import { lstatSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { MptError } from '../../core/errors.js';
import type { Picture } from '../../core/vfio/device.js';
import { ioError } from '../files.js';
import { type DisplayRequest, decodeRequest, encodeFrame, encodeUpdate, FrameReader, REQUEST_LIMITS } from './protocol.js';
import { applyUpdate, updateBetween } from './rows.js';
import { connectTo } from './socket-client.js';

/** Where pictures come from: the device thread. */
export interface PictureSource {
  /**
   * What the display shows now; undefined when it is off. A picture is valid until the next one is asked for.
   * @throws MptError when the device is gone; watchers are told and hung up
   */
  picture(): Promise<Picture | undefined>;
}

/** Connections at once, and requests of one that wait. */
const CONNECTIONS_MAX = 32;
const WAITING_MAX = 8;
/** Bytes of a path in struct sockaddr_un, without the closing zero. */
const PATH_MAX = 107;
const ONLY_OWNER = 0o177;

export class DisplaySocketServer {
  readonly path: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #unlink = (): void => rmSync(this.path, { force: true });

  /**
   * Listens at `path`, mode 0600. A socket there that nobody answers is replaced.
   * @throws MptError INVALID_ARGUMENT for a path that is too long, BUSY when a server answers there, IO
   */
  static async listen(path: string, source: PictureSource): Promise<DisplaySocketServer> {
    await makeRoom(path);
    const self = new DisplaySocketServer(path, source);
    await self.#listen();
    return self;
  }

  private constructor(path: string, source: PictureSource) {
    this.path = path;
    const shared = new SharedPictures(source);
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      new Connection(socket, shared);
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** Hangs up on everyone and removes the socket. Idempotent. */
  async close(): Promise<void> {
    process.off('exit', this.#unlink);
    for (const socket of this.#sockets) socket.destroy();
    // Closing a server that listens on a path removes the path.
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #listen(): Promise<void> {
    // bind happens in the call: no moment at which others can open the socket.
    const old = process.umask(ONLY_OWNER);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', (error) => reject(ioError(error, 'display', `${this.path} cannot be listened at`)));
        this.#server.listen(this.path, resolve);
        process.umask(old);
      });
    } finally {
      process.umask(old);
    }
    // A later failure to accept is the connection's, not the server's.
    this.#server.on('error', () => {});
    process.once('exit', this.#unlink);
  }
}

/** Takes a dead server's socket away. */
async function makeRoom(path: string): Promise<void> {
  const size = Buffer.byteLength(path);
  if (size > PATH_MAX)
    throw new MptError('INVALID_ARGUMENT', `the path ${path} is too long for a socket`, { op: 'display', size, limit: PATH_MAX });
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new MptError('IO', `${path} is there and is no socket`, { op: 'display', hint: 'remove it, or name another' });
  const answers = await connectTo(path).then(
    (socket) => socket.destroy(),
    () => undefined,
  );
  if (answers !== undefined)
    throw new MptError('BUSY', `another server answers at ${path}`, { op: 'display', hint: 'name another socket' });
  rmSync(path, { force: true });
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
        if (request.op === 'picture')
          await this.#send(encodeUpdate(updateBetween(null, await this.#pictures.picture()) ?? { type: 'off' }));
        else await this.#watch(request.intervalMs);
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
