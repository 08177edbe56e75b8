/** The other end of a server's display socket. */
import type { Socket } from 'node:net';
import { MptError } from '../../core/errors.js';
import type { Picture } from '../../core/vfio/device.js';
import { connectSocket } from '../connect.js';
import { ioError } from '../files.js';
import {
  type DisplayRequest,
  type DisplayUpdate,
  decodeStateAnswer,
  decodeUpdate,
  encodeFrame,
  FrameReader,
  type MonitorOrder,
  type StateOrderRequest,
  UPDATE_LIMITS,
} from './protocol.js';

/** A server's device thread answers within 100 ms; a large picture on a busy machine takes longer. */
const ANSWER_LIMIT_MS = 10_000;
/** A server's display socket. @throws MptError IO */
export const connectTo = (path: string): Promise<Socket> =>
  connectSocket(path, { op: 'display', hint: 'the path is that of mpt serve --socket; is it running?' });

/** What may have happened all the same when an order is not answered. */
const UNANSWERED: Readonly<Record<StateOrderRequest['does'], string>> = {
  save: 'the vGPU goes on; try again',
  pause: 'the vGPU may be put away by now, and nothing is lost: --save FILE writes it, --resume brings it back',
  resume: 'try again; a vGPU that is back already is told as not paused',
  restore: 'the vGPU may have been exchanged by now; --save FILE tells which it is',
};

/**
 * Orders something of the server's vGPU.
 * @returns the saved vGPU, empty where none was asked for. @throws MptError IO, TIMEOUT, what the server told
 */
export async function orderState(
  path: string,
  { does, state }: Omit<StateOrderRequest, 'op'>,
  limitMs = ANSWER_LIMIT_MS,
): Promise<Uint8Array> {
  const socket = await connectTo(path);
  const hint = UNANSWERED[does];
  const timer = setTimeout(
    () => socket.destroy(new MptError('TIMEOUT', `the server at ${path} did not answer within ${limitMs} ms`, { op: 'state', hint })),
    limitMs,
  );
  socket.write(encodeFrame({ op: 'state', does }, ...(state === undefined ? [] : [state])));
  const reader = new FrameReader(UPDATE_LIMITS);
  try {
    for await (const piece of socket) for (const frame of reader.push(piece as Buffer)) return decodeStateAnswer(frame);
    throw new MptError('IO', 'the server hung up without an answer', { op: 'state', hint });
  } catch (error) {
    throw MptError.is(error) ? error : ioError(error, 'state', 'the connection to the server broke off');
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/**
 * Sends a request and gives its answers until the connection ends.
 * @throws MptError: what the server told; IO when it hung up before any answer; LIMIT, INVALID_ARGUMENT for what is no answer
 */
export async function* answersOf(socket: Socket, request: DisplayRequest): AsyncGenerator<DisplayUpdate> {
  socket.write(encodeFrame(request));
  const reader = new FrameReader(UPDATE_LIMITS);
  let answered = false;
  try {
    for await (const piece of socket)
      for (const frame of reader.push(piece as Buffer)) {
        answered = true;
        yield decodeUpdate(frame);
      }
  } catch (error) {
    if (MptError.is(error)) throw error;
    // The stream broke off.
  } finally {
    socket.destroy();
  }
  if (!answered) throw new MptError('IO', 'the server hung up without an answer', { op: 'display' });
}

/**
 * The picture now; undefined when the display is off.
 * @param path of the display socket
 * @throws MptError IO, TIMEOUT, what the server told
 */
export const fetchPicture = (path: string, limitMs = ANSWER_LIMIT_MS): Promise<Picture | undefined> =>
  pictureAfter(path, { op: 'picture' }, limitMs);

/** Plugs the monitor in or out, or another one in. @throws MptError IO, TIMEOUT, what the server told */
export async function orderMonitor(path: string, order: MonitorOrder, limitMs = ANSWER_LIMIT_MS): Promise<void> {
  await pictureAfter(path, order, limitMs);
}

async function pictureAfter(path: string, request: DisplayRequest, limitMs: number): Promise<Picture | undefined> {
  const socket = await connectTo(path);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    socket.destroy();
  }, limitMs);
  try {
    for await (const update of answersOf(socket, request)) {
      if (update.type === 'off') return undefined;
      if (update.type === 'picture') {
        const { type: _, ...picture } = update;
        return picture;
      }
    }
    throw new MptError('IO', 'the server gave no picture', { op: 'display' });
  } catch (error) {
    if (late) throw new MptError('TIMEOUT', `the server at ${path} did not answer within ${limitMs} ms`, { op: 'display' });
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
