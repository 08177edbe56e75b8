/**
 * A server's display as this process knows it: watches the display socket while somebody wants it, and looks for the server again
 * after it went away.
 */
import type { Socket } from 'node:net';
import { EventEmitter } from 'eventemitter3';
import { MptError } from '../../core/errors.js';
import type { Picture } from '../../core/vfio/device.js';
import { type DisplayUpdate, INTERVAL_MS } from './protocol.js';
import { applyUpdate } from './rows.js';
import { answersOf, connectTo } from './socket-client.js';

/** `unknown`: nothing has come yet. `gone`: no server answers. */
export type FeedState = 'unknown' | 'gone' | 'off' | 'on';
/** What changed: the server's updates, and `gone`. */
export type FeedUpdate = DisplayUpdate | { readonly type: 'gone' };

export interface FeedOptions {
  readonly intervalMs?: number;
  /** Between two looks for a server. */
  readonly retryMs?: number;
}

const RETRY_MS = 500;

export class DisplayFeed extends EventEmitter<{ update: (update: FeedUpdate) => void }> {
  readonly path: string;
  readonly #intervalMs: number;
  readonly #retryMs: number;
  #state: FeedState = 'unknown';
  #picture: Picture | undefined;
  /** The run that is wanted; an older one ends when it sees that it is not. */
  #run = 0;
  #socket: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param path of the display socket */
  constructor(path: string, { intervalMs = INTERVAL_MS.DEFAULT, retryMs = RETRY_MS }: FeedOptions = {}) {
    super();
    this.path = path;
    this.#intervalMs = intervalMs;
    this.#retryMs = retryMs;
  }

  get state(): FeedState {
    return this.#state;
  }

  /** What the display shows while it is on. Its pixels change with the next update. */
  get picture(): Picture | undefined {
    return this.#picture;
  }

  /** Watches from now on. */
  start(): void {
    this.stop();
    void this.#watch(this.#run);
  }

  /** Hangs up; what it knew is forgotten. */
  stop(): void {
    this.#run++;
    this.#socket?.destroy();
    this.#socket = undefined;
    clearTimeout(this.#timer);
    this.#picture = undefined;
    this.#state = 'unknown';
  }

  async #watch(run: number): Promise<void> {
    try {
      const socket = await connectTo(this.path);
      if (run !== this.#run) {
        socket.destroy();
        return;
      }
      this.#socket = socket;
      for await (const update of answersOf(socket, { op: 'watch', intervalMs: this.#intervalMs })) {
        if (run !== this.#run) return;
        this.#apply(update);
      }
    } catch {
      // Whatever the reason, it is looked for again.
    }
    if (run !== this.#run) return;
    this.#picture = undefined;
    if (this.#state !== 'gone') {
      this.#state = 'gone';
      this.emit('update', { type: 'gone' });
    }
    this.#timer = setTimeout(() => void this.#watch(run), this.#retryMs);
  }

  #apply(update: DisplayUpdate): void {
    const picture = applyUpdate(this.#picture, update);
    if (picture === undefined && update.type !== 'off')
      throw new MptError('INVALID_ARGUMENT', 'rows of another picture', { op: 'display' });
    this.#picture = picture;
    this.#state = this.#picture === undefined ? 'off' : 'on';
    this.emit('update', update);
  }
}
