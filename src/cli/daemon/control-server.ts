/** The daemon's control socket: what `mpt types`, `list`, `create`, `remove`, `show` and `set` ask, answered from the bus. */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { randomUuid, type VgpuBus } from '../../core/bus/index.js';
import { MptError } from '../../core/errors.js';
import { encodeFrame, FrameReader } from '../display/protocol.js';
import { PrivateServer } from '../private-server.js';
import { CONTROL_REQUEST_LIMITS, type ControlRequest, decodeControlRequest } from './control-protocol.js';
import { typeInfo, vgpuDetails, vgpuInfo } from './info.js';
import type { Log } from './log.js';

const CONNECTIONS_MAX = 64;
/** Requests of one connection that wait: the rest stays in the kernel. */
const WAITING_MAX = 64;

/** @throws MptError BUSY when a server answers there, IO, INVALID_ARGUMENT */
export const serveControl = (path: string, bus: VgpuBus, log: Log): Promise<PrivateServer> =>
  PrivateServer.listen(path, {
    op: 'control',
    connections: CONNECTIONS_MAX,
    onConnection: (socket) => void new Connection(socket, bus, log),
  });

/** @throws MptError what the bus refuses */
export async function answerControl(bus: VgpuBus, request: ControlRequest): Promise<unknown> {
  switch (request.op) {
    case 'types':
      return bus.types.map((type) => typeInfo(bus, type));
    case 'list':
      return bus.vgpus.map((vgpu) => vgpuInfo(bus, vgpu));
    case 'create': {
      const { type, gpu, uuid = randomUuid(randomBytes(16)), settings = {} } = request;
      return vgpuDetails(bus, bus.create({ type, uuid, settings, ...(gpu === undefined ? {} : { gpu }) }));
    }
    case 'remove': {
      const { uuid } = bus.vgpu(request.uuid);
      await bus.remove(uuid);
      return { uuid };
    }
    case 'show':
      return vgpuDetails(bus, bus.vgpu(request.uuid));
    case 'set': {
      const vgpu = bus.vgpu(request.uuid);
      bus.setAll(vgpu, request.settings);
      return vgpuDetails(bus, vgpu);
    }
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #bus: VgpuBus;
  readonly #log: Log;
  readonly #reader = new FrameReader(CONTROL_REQUEST_LIMITS);
  readonly #waiting: ControlRequest[] = [];
  #busy = false;

  constructor(socket: Socket, bus: VgpuBus, log: Log) {
    this.#socket = socket;
    this.#bus = bus;
    this.#log = log;
    socket.on('error', () => {});
    socket.on('data', (piece: Buffer) => this.#received(piece));
  }

  #received(piece: Buffer): void {
    try {
      for (const frame of this.#reader.push(piece)) {
        if (this.#waiting.length >= WAITING_MAX)
          throw new MptError('LIMIT', 'too many requests wait for their answer', { op: 'control', limit: WAITING_MAX });
        this.#waiting.push(decodeControlRequest(frame));
      }
    } catch (error) {
      // The stream is lost.
      this.#log.refused('control connection', error);
      this.#waiting.length = 0;
      this.#socket.removeAllListeners('data');
      this.#socket.resume();
      this.#socket.end(encodeFrame({ error }));
      return;
    }
    if (!this.#busy) void this.#work();
  }

  async #work(): Promise<void> {
    this.#busy = true;
    for (let request = this.#waiting.shift(); request !== undefined; request = this.#waiting.shift()) {
      const reply = await this.#answer(request);
      if (!this.#socket.writable) break;
      if (!this.#socket.write(encodeFrame(reply))) await this.#drained();
    }
    this.#busy = false;
  }

  async #answer(request: ControlRequest): Promise<{ result: unknown } | { error: unknown }> {
    try {
      return { result: await answerControl(this.#bus, request) };
    } catch (error) {
      this.#log.refused(request.op, error);
      return { error: MptError.is(error) ? error : new MptError('INTERNAL', String(error), { op: 'control' }) };
    }
  }

  /** Or gone. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#socket.off('drain', done);
        this.#socket.off('close', done);
        resolve();
      };
      this.#socket.on('drain', done);
      this.#socket.on('close', done);
    });
  }
}
