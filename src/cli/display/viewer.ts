/**
 * One page that shows the display. At most one message is under way to it; what changes meanwhile is remembered by row and sent as it is
 * by then, so that a slow page skips pictures and costs no more memory than one.
 */
import type { WebSocket } from 'ws';
import type { DisplayFeed, FeedUpdate } from './feed.js';
import { encodeFrame } from './protocol.js';
import { rangesOf, rowsOf } from './rows.js';

export class Viewer {
  readonly #socket: WebSocket;
  readonly #feed: DisplayFeed;
  /** What the page shows: the type of the last message that was not rows, and the size. */
  #shown: { readonly type: string; readonly width: number; readonly height: number } | undefined;
  /** Rows that it has not seen, 1 each; for the size that is shown. */
  #dirty = new Uint8Array();
  #sending = false;

  constructor(socket: WebSocket, feed: DisplayFeed) {
    this.#socket = socket;
    this.#feed = feed;
    this.#send();
  }

  /** The feed changed. */
  update(update: FeedUpdate): void {
    if (update.type === 'rows' && this.#dirty.length === update.height)
      for (const [first, count] of update.ranges) this.#dirty.fill(1, first, first + count);
    // A whole picture of the same size: everything is new.
    else if (update.type === 'picture') this.#dirty.fill(1);
    this.#send();
  }

  #send(): void {
    if (this.#sending) return;
    const message = this.#message();
    if (message === undefined) return;
    this.#sending = true;
    this.#socket.send(message, { binary: true }, () => {
      this.#sending = false;
      if (this.#socket.readyState === this.#socket.OPEN) this.#send();
    });
  }

  /** What makes the page show what the feed has now; undefined when it does. */
  #message(): Uint8Array | undefined {
    const { picture, state } = this.#feed;
    if (picture === undefined) {
      if (state === 'unknown' || this.#shown?.type === state) return undefined;
      this.#shown = { type: state, width: 0, height: 0 };
      this.#dirty = new Uint8Array();
      return encodeFrame({ type: state });
    }
    const { width, height, rgba } = picture;
    if (this.#shown?.width !== width || this.#shown.height !== height) {
      this.#shown = { type: 'picture', width, height };
      this.#dirty = new Uint8Array(height);
      return encodeFrame({ type: 'picture', width, height }, rgba);
    }
    const ranges = rangesOf(height, (row) => this.#dirty[row] !== 0);
    if (ranges.length === 0) return undefined;
    this.#dirty.fill(0);
    return encodeFrame({ type: 'rows', width, height, ranges }, ...rowsOf(picture, ranges));
  }
}
