/**
 * A trace's file: one JSON array, whole after each write, so that it can be read while the vGPU runs and after whatever ended it. The closing
 * bracket is written with each piece, and the next piece goes over it.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { MptError } from '../core/errors.js';
import { TraceLog } from '../core/gvt/trace/trace-log.js';

/** What a trace is asked for. */
export interface TraceOptions {
  readonly path: string;
  /** Bytes that the file has at most; default 256 MiB, more than which viewers hardly load. */
  readonly limit?: number | undefined;
  /** The file cannot be written any more, or has reached its limit: the vGPU goes on, the trace has ended. Called once. */
  readonly onFailure: (error: MptError) => void;
}

export interface OpenTrace {
  readonly log: TraceLog;
  /** Writes the rest. Idempotent. */
  close(): void;
}

const LIMIT = 256 * 1024 * 1024;
const HEAD = '[\n';
const TAIL = '\n]\n';

/** Makes the file. @throws MptError IO */
export function openTrace({ path, limit = LIMIT, onFailure }: TraceOptions): OpenTrace {
  const failed = (error: unknown): MptError => {
    if (MptError.is(error)) return error;
    const { errno = 0 } = error as NodeJS.ErrnoException;
    return new MptError('IO', `the trace ${path} cannot be written`, { op: 'trace', errno: Math.abs(errno) });
  };
  let fd: number | undefined;
  try {
    fd = openSync(path, 'w', 0o644);
    put(fd, Buffer.from(`${HEAD}${TAIL}`), 0);
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw failed(error);
  }
  let end = HEAD.length;
  const write = (text: string): void => {
    if (fd === undefined) return;
    try {
      const piece = Buffer.from(`${text}${TAIL}`);
      if (end + piece.length > limit)
        throw new MptError('LIMIT', `the trace ${path} is as large as it may be`, { op: 'trace', limit, hint: 'set --trace-limit' });
      put(fd, piece, end);
      end += piece.length - TAIL.length;
    } catch (error) {
      // What was written before stays a whole array.
      mend(fd, end);
      closeSync(fd);
      fd = undefined;
      onFailure(failed(error));
    }
  };
  const log = new TraceLog({ now: () => performance.now() * 1e6, write });
  return {
    log,
    close: () => {
      log.flush();
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}

function put(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}

function mend(fd: number, end: number): void {
  try {
    ftruncateSync(fd, end);
    put(fd, Buffer.from(TAIL), end);
  } catch {
    // The disk is full to the last byte: viewers take an array without its bracket, too.
  }
}
