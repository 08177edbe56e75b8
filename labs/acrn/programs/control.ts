/** The stand-in's control device, for programs that run under it: one line out, one line of JSON back, without waiting for events. */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import type { Report } from '../standin.js';

const ANSWER_SIZE = 1 << 16;

export class Control {
  readonly #fd: number;
  readonly #bytes = Buffer.alloc(ANSWER_SIZE);

  /** @throws Error when this process does not run under the stand-in */
  constructor() {
    this.#fd = openSync('/dev/acrn_standin', 'r+');
  }

  /** @param line `fail NAME ERRNO [NTH [TIMES]]`, `forge FIELD=VALUE...` or `clear`. @throws Error with what is wrong with it */
  tell(line: string): void {
    const { ok, problem } = this.#ask(line) as { ok: boolean; problem?: string };
    if (!ok) throw new Error(`'${line}': ${problem}`);
  }

  state(): Report {
    return this.#ask('state') as Report;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #ask(line: string): unknown {
    writeSync(this.#fd, `${line}\n`);
    let text = '';
    while (!text.endsWith('\n')) {
      const length = readSync(this.#fd, this.#bytes);
      if (length === 0) throw new Error('the stand-in is gone');
      text += this.#bytes.toString('utf8', 0, length);
    }
    return JSON.parse(text);
  }
}
