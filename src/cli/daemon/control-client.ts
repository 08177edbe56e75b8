/** The other end of the daemon's control socket. */
import { MptError } from '../../core/errors.js';
import { connectSocket } from '../connect.js';
import { encodeFrame, FrameReader } from '../display/protocol.js';
import { CONTROL_REPLY_LIMITS, type ControlRequest, type ControlResults } from './control-protocol.js';

/** A removal waits until a device thread has ended, which has a deadline of two seconds. */
const ANSWER_LIMIT_MS = 10_000;

/** Asks once. @throws MptError IO when no daemon answers, TIMEOUT, and what the daemon refused with */
export async function askDaemon<R extends ControlRequest>(path: string, request: R): Promise<ControlResults[R['op']]> {
  const socket = await connectSocket(path, { op: request.op, hint: 'is mpt daemon running? --runtime or MPT_RUNTIME names its folder' });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    socket.destroy();
  }, ANSWER_LIMIT_MS);
  const reader = new FrameReader(CONTROL_REPLY_LIMITS);
  try {
    socket.write(encodeFrame(request));
    for await (const piece of socket)
      for (const { header } of reader.push(piece as Buffer)) {
        const { result, error } = header as { result?: ControlResults[R['op']]; error?: Record<string, unknown> };
        if (error !== undefined) throw MptError.fromJSON(error);
        return result as ControlResults[R['op']];
      }
  } catch (error) {
    if (MptError.is(error)) throw error;
    // The stream broke off.
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
  if (late) throw new MptError('TIMEOUT', `the daemon did not answer within ${ANSWER_LIMIT_MS} ms`, { op: request.op });
  throw new MptError('IO', 'the daemon hung up without an answer', { op: request.op });
}
