/**
 * Detaches an ArrayBuffer, so that every view of it becomes empty. Used before `munmap`: a view that someone kept then
 * reads undefined instead of ending the process with SIGSEGV.
 *
 * Node marks buffers over foreign memory untransferable for structuredClone, and Node 20 has no
 * `ArrayBuffer.prototype.transfer`. A readable byte stream, however, takes over the buffer of whatever is enqueued (WHATWG
 * Streams, ReadableByteStreamControllerEnqueue: TransferArrayBuffer), in every version. Nobody reads from the stream, and
 * what owns the memory in its queue never touches it.
 */
import { MptError } from '../core/errors.js';

/** Buffers that one stream takes over before it is dropped with them: a stream costs more than a buffer's entry in it. */
const BUFFERS_A_STREAM = 64;

let controller: ReadableByteStreamController | undefined;
let taken = 0;

function newController(): ReadableByteStreamController {
  let made: ReadableByteStreamController | undefined;
  new ReadableStream({
    type: 'bytes',
    start: (given) => {
      made = given;
    },
  });
  return made as unknown as ReadableByteStreamController;
}

export function detachArrayBuffer(buffer: ArrayBuffer): void {
  if (buffer.byteLength === 0) return;
  if (controller === undefined || taken === BUFFERS_A_STREAM) {
    controller = newController();
    taken = 0;
  }
  controller.enqueue(new Uint8Array(buffer, 0, 1));
  taken++;
  if (buffer.byteLength !== 0) throw new MptError('INTERNAL', 'the runtime does not detach an enqueued buffer', { op: 'detach' });
}
