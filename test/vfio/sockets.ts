/** Clients of a server that listens on a path, in the same thread or in processes of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { VfioDevice } from '../../src/core/vfio/device.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets, SOCK, unixAddress } from '../../src/native/sockets.js';
import { VfioUserClient } from '../../src/vfio/client.js';
import type { VfioUserServer } from '../../src/vfio/server.js';
import { type SocketTransport, socketTransport } from '../../src/vfio/transport.js';
import { answer, Peer } from './support.js';

/** A connected socket; throws the errno. */
export function connect(path: string): number {
  const fd = libcSockets.socket(SOCK.NONBLOCK);
  const result = libcSockets.connect(fd, unixAddress(path) as Uint8Array);
  if (result === 0) return fd;
  sys.close(fd);
  throw new Error(`connect: errno ${-result}`);
}

export const connectTransport = (path: string): SocketTransport => socketTransport(sys, libcSockets, connect(path));
export const connectPeer = (path: string): Peer => new Peer(connectTransport(path));

/** What a server does while a client of the same thread waits. */
export function pump(server: VfioUserServer, device: VfioDevice = server.device, timeoutMs = 0): void {
  const access = server.receive(timeoutMs);
  if (access !== undefined) answer(server, device, access);
}

/** Pumps until nothing comes any more. */
export function settle(server: VfioUserServer, rounds = 4): void {
  for (let i = 0; i < rounds; i++) pump(server);
}

export function connectClient(
  server: VfioUserServer,
  onDma?: (address: number, bytes: Uint8Array, write: boolean) => boolean,
): VfioUserClient {
  return new VfioUserClient(connectTransport(server.path), { pump: () => pump(server), ...(onDma === undefined ? {} : { onDma }) });
}

const HOSTILE = fileURLToPath(new URL('./hostile-client.js', import.meta.url));
export type HostileScenario = 'drip' | 'mute' | 'flood';

/** A client that misbehaves in a process of its own until it is killed or hung up on. Resolves when it has begun. */
export function hostileClient(path: string, scenario: HostileScenario): Promise<ChildProcess> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [HOSTILE, path, scenario], { stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.once('data', () => resolve(child));
  });
}
