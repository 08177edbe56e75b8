/** A connection to one of our servers on this machine. */
import { createConnection, type Socket } from 'node:net';
import { MptError } from '../core/errors.js';
import { ioError } from './files.js';

/** What a socket says where no server is. */
const NOBODY: readonly (string | undefined)[] = ['ENOENT', 'ECONNREFUSED', 'ENOTSOCK', 'EPROTOTYPE'];

/** @param hint where nobody answers @throws MptError IO */
export function connectSocket(path: string, { op, hint }: { readonly op: string; readonly hint: string }): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    const failed = (error: NodeJS.ErrnoException): void => {
      const nobody = NOBODY.includes(error.code);
      const { errno } = ioError(error, op, '');
      reject(
        new MptError('IO', nobody ? `no server answers at ${path}` : `${path} cannot be opened`, {
          op,
          ...(errno === undefined ? { cause: error } : { errno }),
          ...(nobody ? { hint } : {}),
        }),
      );
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      socket.off('error', failed);
      // What happens later ends the reading, which says so.
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}
