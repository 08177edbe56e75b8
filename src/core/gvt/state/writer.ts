/** Writes the fields of one section. */
import type { MptError } from '../../errors.js';
import { isLine, refusal } from './limits.js';
import { SectionStream } from './section-stream.js';
import { eachRun } from './sparse.js';

const FIRST_CAPACITY = 4096;

export class StateWriter extends SectionStream {
  readonly restoring = false;
  #bytes = new Uint8Array(FIRST_CAPACITY);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** What was written: a copy. */
  take(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  bool(_name: string, value: boolean): boolean {
    const at = this.#room(1);
    this.#bytes[at] = value ? 1 : 0;
    return value;
  }

  u32(name: string, value: number, max = 0xffff_ffff, min = 0): number {
    this.checked(name, value, max, min, true);
    const at = this.#room(4);
    this.#view.setUint32(at, value, true);
    return value;
  }

  integer(name: string, value: number, max: number = Number.MAX_SAFE_INTEGER, min = 0): number {
    this.checked(name, value, max, min, true);
    const at = this.#room(8);
    this.#view.setUint32(at, value % 2 ** 32, true);
    this.#view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
    return value;
  }

  number(name: string, value: number, max: number, min: number): number {
    this.checked(name, value, max, min, false);
    const at = this.#room(8);
    this.#view.setFloat64(at, value, true);
    return value;
  }

  text(name: string, value: string, max: number): string {
    const bytes = new TextEncoder().encode(value);
    if (!isLine(value)) this.fail(name, 'it is no line of text');
    this.blob(name, bytes, max);
    return value;
  }

  bytes(_name: string, value: Uint8Array): void {
    const at = this.#room(value.length);
    this.#bytes.set(value, at);
  }

  blob(name: string, value: Uint8Array, max: number): Uint8Array {
    this.u32(name, value.length, max);
    this.bytes(name, value);
    return value;
  }

  words(_name: string, value: Uint32Array): void {
    eachRun(value, (first, count) => {
      let at = this.#run(first, count);
      for (let i = first; i < first + count; i++, at += 4) this.#view.setUint32(at, value[i] as number, true);
    });
    this.#run(value.length, 0);
  }

  protected override refusal(where: string, what: string): MptError {
    return refusal('save_vgpu', `the state of ${where} is none that can be restored: ${what}`);
  }

  /** @returns where the run's dwords go */
  #run(first: number, count: number): number {
    const at = this.#room(8 + count * 4);
    this.#view.setUint32(at, first, true);
    this.#view.setUint32(at + 4, count, true);
    return at + 8;
  }

  /** Room for `size` more bytes: the array may be another one afterwards. @returns where it begins */
  #room(size: number): number {
    const at = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}
