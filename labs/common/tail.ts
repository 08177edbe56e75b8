/** Follows a file that another process writes, from its beginning. */
import { closeSync, openSync, readSync } from 'node:fs';

const INTERVAL_MS = 100;

export class Tail {
  readonly #path: string;
  readonly #take: (bytes: Buffer) => void;
  readonly #timer: NodeJS.Timeout;
  #fd: number | undefined;

  /** @param path need not exist yet. @param take gets each piece as it appears */
  constructor(path: string, take: (bytes: Buffer) => void) {
    this.#path = path;
    this.#take = take;
    this.#timer = setInterval(() => this.#read(), INTERVAL_MS);
  }

  /** Takes what is left and lets go of the file. */
  close(): void {
    clearInterval(this.#timer);
    this.#read();
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #read(): void {
    try {
      this.#fd ??= openSync(this.#path, 'r');
    } catch {
      return;
    }
    for (;;) {
      const piece = Buffer.alloc(1 << 16);
      const length = readSync(this.#fd, piece);
      if (length === 0) return;
      this.#take(piece.subarray(0, length));
    }
  }
}
