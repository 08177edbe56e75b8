/**
 * What travels between a server's display socket, `mpt display` and its page: frames of a JSON header and raw bytes.
 *
 *   u32 little endian: bytes of the header · u32: bytes of the payload · header · payload
 *
 * Requests (no payload): `{"op":"picture"}` is answered once, `{"op":"watch","intervalMs":n}` until the connection ends;
 * `{"op":"monitor","connected":b,"edid":"HEX"}` plugs the monitor in or out, with `edid` another one, and is
 * then answered as `picture` is. `{"op":"state","does":…}` saves a vGPU (`save`), puts it away (`pause`), brings it back (`resume`) or
 * exchanges it (`restore`, the only request with a payload: a saved vGPU), and is answered by `{"type":"state"}`, with
 * the saved vGPU as payload for the first two.
 * Answers: `{"type":"picture","width","height","planes"}` with all pixels (planes as `ShownPlane`, where the device tells of them); `{"type":"rows","width","height","ranges":[[first,count],…]}` with the
 * pixels of those rows, in order; `{"type":"off"}`; `{"type":"error","error":{…}}`, after which the server hangs up. A pixel is 4
 * bytes: red, green, blue, 255. To its page `mpt display` also says `{"type":"gone"}`: no server answers.
 */
import { MptError } from '../../core/errors.js';
import { DOCUMENT_BYTES_MAX } from '../../core/gvt/state/document.js';
import type { Picture, ShownPlane } from '../../core/vfio/device.js';
import type { RowRange } from './rows.js';

/** The display socket of a server that listens at `path`. */
export const displaySocketPath = (path: string): string => `${path}.display`;

/** Milliseconds between two looks at a watched display. */
export const INTERVAL_MS = { MIN: 10, DEFAULT: 40, MAX: 10_000 } as const;

export interface MonitorOrder {
  readonly op: 'monitor';
  readonly connected: boolean;
  /** Hexadecimal digits. */
  readonly edid?: string;
}

export const STATE_ORDERS = ['save', 'pause', 'resume', 'restore'] as const;

export interface StateOrderRequest {
  readonly op: 'state';
  readonly does: (typeof STATE_ORDERS)[number];
  /** Of `restore`. */
  readonly state?: Uint8Array;
}

export type DisplayRequest =
  | { readonly op: 'picture' }
  | { readonly op: 'watch'; readonly intervalMs: number }
  | MonitorOrder
  | StateOrderRequest;

export type DisplayUpdate =
  | ({ readonly type: 'picture' } & Picture)
  | {
      readonly type: 'rows';
      readonly width: number;
      readonly height: number;
      /** Ascending, disjoint. */
      readonly ranges: readonly RowRange[];
      readonly rgba: Uint8Array;
    }
  | { readonly type: 'off' };

export interface FrameLimits {
  /** Bytes. */
  readonly header: number;
  readonly payload: number;
}

/** The payload is a saved vGPU. */
export const REQUEST_LIMITS: FrameLimits = { header: 4096, payload: DOCUMENT_BYTES_MAX };
/** A surface of GVT-g's limit, 36 MiB at 2 bytes a pixel, is 72 MiB of pixels; each second row of a high one makes many ranges. */
export const UPDATE_LIMITS: FrameLimits = { header: 1 << 20, payload: 128 << 20 };

export interface Frame {
  readonly header: unknown;
  readonly payload: Uint8Array;
}

const PREFIX = 8;

/** One frame as bytes. The payload is copied. */
export function encodeFrame(header: unknown, ...payload: readonly Uint8Array[]): Uint8Array {
  const text = Buffer.from(JSON.stringify(header));
  const length = payload.reduce((sum, part) => sum + part.length, 0);
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeUInt32LE(text.length, 0);
  prefix.writeUInt32LE(length, 4);
  return Buffer.concat([prefix, text, ...payload]);
}

export function encodeUpdate(update: DisplayUpdate): Uint8Array {
  if (update.type === 'off') return encodeFrame({ type: 'off' });
  const { rgba, ...header } = update;
  return encodeFrame(header, rgba);
}

/** Puts frames together again from a stream's pieces. */
export class FrameReader {
  readonly #limits: FrameLimits;
  /** The part that is awaited: prefix, then header and payload in one. */
  #part = Buffer.alloc(PREFIX);
  #filled = 0;
  /** Bytes of the header of the frame whose body is awaited; 0 while the prefix is. */
  #header = 0;

  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /**
   * The frames that are complete with this piece.
   * @throws MptError LIMIT for a frame past the limits, INVALID_ARGUMENT for a header that is no JSON; the stream is lost then
   */
  *push(piece: Uint8Array): Generator<Frame> {
    let at = 0;
    while (at < piece.length) {
      const count = Math.min(this.#part.length - this.#filled, piece.length - at);
      this.#part.set(piece.subarray(at, at + count), this.#filled);
      this.#filled += count;
      at += count;
      if (this.#filled < this.#part.length) return;
      const part = this.#part;
      this.#filled = 0;
      if (this.#header === 0) this.#expectBody(part);
      else {
        const frame = { header: parse(part.subarray(0, this.#header)), payload: part.subarray(this.#header) };
        this.#header = 0;
        this.#part = Buffer.alloc(PREFIX);
        yield frame;
      }
    }
  }

  #expectBody(prefix: Buffer): void {
    const [header, payload] = [prefix.readUInt32LE(0), prefix.readUInt32LE(4)];
    for (const [what, size, limit] of [
      ['header', header, this.#limits.header],
      ['payload', payload, this.#limits.payload],
    ] as const)
      if (size > limit) throw new MptError('LIMIT', `the ${what} of a frame is too long`, { op: 'display', size, limit });
    if (header === 0) throw new MptError('INVALID_ARGUMENT', 'a frame has no header', { op: 'display' });
    this.#header = header;
    this.#part = Buffer.alloc(header + payload);
  }
}

function parse(header: Buffer): unknown {
  try {
    return JSON.parse(header.toString('utf8'));
  } catch {
    throw new MptError('INVALID_ARGUMENT', 'the header of a frame is no JSON', { op: 'display' });
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
const isCount = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0 && (value as number) <= 0xffff_ffff;

/** @throws MptError INVALID_ARGUMENT for what is no request */
export function decodeRequest({ header, payload }: Frame): DisplayRequest {
  if (isRecord(header) && header['op'] === 'state') return decodeState(header, payload);
  if (payload.length > 0) throw new MptError('INVALID_ARGUMENT', 'only a state has a payload', { op: 'display', size: payload.length });
  if (isRecord(header) && header['op'] === 'picture') return { op: 'picture' };
  if (isRecord(header) && header['op'] === 'monitor') return decodeMonitor(header);
  if (!isRecord(header) || header['op'] !== 'watch')
    throw new MptError('INVALID_ARGUMENT', "a request's op is 'picture', 'watch', 'monitor' or 'state'", { op: 'display' });
  const { intervalMs } = header;
  if (!isCount(intervalMs) || intervalMs < INTERVAL_MS.MIN || intervalMs > INTERVAL_MS.MAX)
    throw new MptError('INVALID_ARGUMENT', `intervalMs is a whole number from ${INTERVAL_MS.MIN} to ${INTERVAL_MS.MAX}`, { op: 'display' });
  return { op: 'watch', intervalMs };
}

function decodeState({ does: wanted }: Record<string, unknown>, payload: Uint8Array): StateOrderRequest {
  const does = STATE_ORDERS.find((order) => order === wanted);
  if (does === undefined || payload.length > 0 !== (does === 'restore'))
    throw new MptError('INVALID_ARGUMENT', `does is one of ${STATE_ORDERS.join(', ')}, and a restore has a payload`, { op: 'display' });
  return does === 'restore' ? { op: 'state', does, state: payload } : { op: 'state', does };
}

/** The saved vGPU in an answer; empty where none was asked for. @throws MptError INVALID_ARGUMENT for another answer; the error that the server told */
export function decodeStateAnswer({ header, payload }: Frame): Uint8Array {
  if (isRecord(header) && header['type'] === 'state') return payload;
  if (isRecord(header) && header['type'] === 'error' && isRecord(header['error'])) throw MptError.fromJSON(header['error']);
  throw new MptError('INVALID_ARGUMENT', 'the server answered something that is no state', { op: 'state' });
}

function decodeMonitor({ connected, edid }: Record<string, unknown>): MonitorOrder {
  if (typeof connected !== 'boolean' || (edid !== undefined && (typeof edid !== 'string' || !/^([0-9a-f]{2})*$/.test(edid))))
    throw new MptError('INVALID_ARGUMENT', 'connected is true or false, edid hexadecimal digits', { op: 'display' });
  return { op: 'monitor', connected, ...(edid === undefined ? {} : { edid }) };
}

/** @throws MptError INVALID_ARGUMENT for what is no update; the error that the server told */
export function decodeUpdate({ header, payload }: Frame): DisplayUpdate {
  if (isRecord(header)) {
    const { type, width, height, ranges, error, planes } = header;
    if (type === 'off') return { type };
    if (type === 'error' && isRecord(error)) throw MptError.fromJSON(error);
    if (isCount(width) && isCount(height)) {
      const rowBytes = width * 4;
      if (type === 'picture' && payload.length === rowBytes * height && (planes === undefined || arePlanes(planes)))
        return { type, width, height, rgba: payload, ...(planes === undefined ? {} : { planes }) };
      if (type === 'rows' && areRanges(ranges, height) && payload.length === rowBytes * ranges.reduce((sum, [, count]) => sum + count, 0))
        return { type, width, height, ranges, rgba: payload };
    }
  }
  throw new MptError('INVALID_ARGUMENT', 'the server answered something that is no display update', { op: 'display' });
}

/** One of each kind at most, so many are not shown. */
function arePlanes(value: unknown): value is ShownPlane[] {
  const kinds = ['primary', 'sprite', 'cursor'];
  const isPlace = (place: unknown): boolean => Number.isInteger(place) && Math.abs(place as number) <= 0xffff;
  return (
    Array.isArray(value) &&
    value.length <= kinds.length &&
    value.every(
      (plane: unknown) =>
        isRecord(plane) &&
        kinds.includes(plane['kind'] as string) &&
        isCount(plane['width']) &&
        isCount(plane['height']) &&
        isPlace(plane['left']) &&
        isPlace(plane['top']) &&
        /^[A-Z0-9]{1,16}$/.test(String(plane['format'])) &&
        ['linear', 'x', 'y'].includes(plane['tiling'] as string),
    )
  );
}

function areRanges(value: unknown, height: number): value is RowRange[] {
  if (!Array.isArray(value)) return false;
  let next = 0;
  for (const range of value) {
    if (!Array.isArray(range) || range.length !== 2) return false;
    const [first, count] = range as unknown[];
    if (!Number.isInteger(first) || (first as number) < next || !isCount(count)) return false;
    next = (first as number) + count;
    if (next > height) return false;
  }
  return true;
}
