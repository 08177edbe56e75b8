/**
 * A browser driven by the Chrome DevTools Protocol over two pipes (`--remote-debugging-pipe`: descriptor 3 takes commands, 4 gives answers
 * and events, each a JSON text that ends with a zero byte). No port is opened.
 */
import type { ChildProcess } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { collected, kill, lastLine, start } from '../common/children.js';
import type { Chromium } from './chromium.js';

export type Params = Readonly<Record<string, unknown>>;

export interface Event {
  readonly method: string;
  readonly params: Params;
  /** Of the page; absent for the browser's own. */
  readonly sessionId?: string;
}

interface Message extends Partial<Event> {
  readonly id?: number;
  readonly result?: Params;
  readonly error?: { readonly message: string };
}

const ANSWER_LIMIT_MS = 60_000;

export class Browser {
  /** Gets every event. */
  onEvent: (event: Event) => void = () => {};
  readonly #child: ChildProcess;
  readonly #commands: Writable;
  readonly #stderr: () => string;
  readonly #waiting = new Map<number, { resolve: (result: Params) => void; reject: (error: Error) => void }>();
  #last = 0;
  #rest: Buffer[] = [];

  /**
   * @param home folder for all that it writes
   * @param rules names that are this machine to it, as `MAP name 127.0.0.1`; no other name is found
   */
  constructor({ program, env }: Chromium, home: string, rules: readonly string[] = []) {
    const args = [
      // The pages are our own, and root has no other way.
      '--no-sandbox',
      '--disable-gpu',
      '--remote-debugging-pipe',
      `--user-data-dir=${home}`,
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      `--host-resolver-rules=${[...rules, 'MAP * ~NOTFOUND', 'EXCLUDE 127.0.0.1', 'EXCLUDE localhost'].join(',')}`,
    ];
    this.#child = start(program, args, {
      env: { ...process.env, ...env, HOME: home },
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
    });
    this.#stderr = collected(this.#child.stderr);
    this.#commands = this.#child.stdio[3] as Writable;
    this.#commands.on('error', () => {});
    (this.#child.stdio[4] as Readable).on('data', (piece: Buffer) => this.#received(piece));
    this.#child.once('error', ({ message }) => this.#fail(`Chromium did not start: ${message}`));
    this.#child.once('close', (status) => this.#fail(`Chromium ended with ${status}: ${lastLine(this.#stderr())}`));
  }

  /** Sends a command and waits for its answer. @throws Error with the browser's message, or when it ended */
  send(method: string, params: Params = {}, sessionId?: string): Promise<Params> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`Chromium did not answer ${method} within ${ANSWER_LIMIT_MS / 1000} s`)),
        ANSWER_LIMIT_MS,
      );
      const done =
        <T>(use: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(timer);
          use(value);
        };
      this.#waiting.set(id, { resolve: done(resolve), reject: done((error: Error) => reject(new Error(`${method}: ${error.message}`))) });
      this.#commands.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  close(): void {
    kill(this.#child);
  }

  #received(piece: Buffer): void {
    let from = 0;
    for (let end = piece.indexOf(0); end >= 0; end = piece.indexOf(0, from)) {
      const text = Buffer.concat([...this.#rest, piece.subarray(from, end)]).toString('utf8');
      this.#rest = [];
      from = end + 1;
      this.#handle(JSON.parse(text) as Message);
    }
    if (from < piece.length) this.#rest.push(piece.subarray(from));
  }

  #handle({ id, result = {}, error, method, params = {}, sessionId }: Message): void {
    if (id === undefined) {
      if (method !== undefined) this.onEvent({ method, params, ...(sessionId === undefined ? {} : { sessionId }) });
      return;
    }
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(error.message));
  }

  #fail(why: string): void {
    for (const { reject } of this.#waiting.values()) reject(new Error(why));
    this.#waiting.clear();
  }
}
