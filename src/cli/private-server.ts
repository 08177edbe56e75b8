/** A stream socket of the main thread that only its user can open; what a dead server left at its path is replaced. */
import { lstatSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { MptError } from '../core/errors.js';
import { connectSocket } from './connect.js';
import { ioError } from './files.js';

/** Bytes of a path in struct sockaddr_un, without the closing zero. */
const PATH_MAX = 107;
const ONLY_OWNER = 0o177;

export interface PrivateServerOptions {
  /** For errors. */
  readonly op: string;
  /** Connections at once; more are closed as they come. */
  readonly connections: number;
  readonly onConnection: (socket: Socket) => void;
}

export class PrivateServer {
  readonly path: string;
  readonly #server: Server;
  readonly #op: string;
  readonly #sockets = new Set<Socket>();
  readonly #unlink = (): void => rmSync(this.path, { force: true });

  /**
   * Listens at `path`, mode 0600. A socket there that nobody answers is replaced.
   * @throws MptError INVALID_ARGUMENT for a path that is too long, BUSY when a server answers there, IO
   */
  static async listen(path: string, options: PrivateServerOptions): Promise<PrivateServer> {
    await makeRoom(path, options.op);
    const self = new PrivateServer(path, options);
    await self.#listen();
    return self;
  }

  private constructor(path: string, { op, connections, onConnection }: PrivateServerOptions) {
    this.path = path;
    this.#op = op;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      onConnection(socket);
    });
    this.#server.maxConnections = connections;
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
        this.#server.once('error', (error) => reject(ioError(error, this.#op, `${this.path} cannot be listened at`)));
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
async function makeRoom(path: string, op: string): Promise<void> {
  const size = Buffer.byteLength(path);
  if (size > PATH_MAX) throw new MptError('INVALID_ARGUMENT', `the path ${path} is too long for a socket`, { op, size, limit: PATH_MAX });
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new MptError('IO', `${path} is there and is no socket`, { op, hint: 'remove it, or name another' });
  const answers = await connectSocket(path, { op, hint: '' }).then(
    (socket) => socket.destroy(),
    () => undefined,
  );
  if (answers !== undefined) throw new MptError('BUSY', `another server answers at ${path}`, { op, hint: 'name another socket' });
  rmSync(path, { force: true });
}
