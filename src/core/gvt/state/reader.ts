/** Reads the fields of one section, which may be hostile: every length is checked against what is there before anything is read or made. */
import type { MptError } from '../../errors.js';
import { isLine, refusal } from './limits.js';
import { SectionStream } from './section-stream.js';

export class StateReader extends SectionStream {
  readonly restoring = true;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  /** @param section in messages. @param bytes of the section; not to be changed meanwhile */
  constructor(section: string, bytes: Uint8Array) {
    super(section);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** The section is over. @throws MptError BAD_STATE when there is more of it */
  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) this.refuse(`${left} bytes are left over`);
  }

  bool(name: string, _value: boolean): boolean {
    const value = this.#bytes[this.#take(name, 1)] as number;
    if (value > 1) this.fail(name, `${value} is neither 0 nor 1`);
    return value === 1;
  }

  u32(name: string, _value: number, max = 0xffff_ffff, min = 0): number {
    return this.checked(name, this.#view.getUint32(this.#take(name, 4), true), max, min, true);
  }

  integer(name: string, _value: number, max: number = Number.MAX_SAFE_INTEGER, min = 0): number {
    const at = this.#take(name, 8);
    return this.checked(name, this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true), max, min, true);
  }

  number(name: string, _value: number, max: number, min: number): number {
    return this.checked(name, this.#view.getFloat64(this.#take(name, 8), true), max, min, false);
  }

  text(name: string, _value: string, max: number): string {
    const bytes = this.blob(name, new Uint8Array(), max);
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      return this.fail(name, 'it is no UTF-8');
    }
    return isLine(text) ? text : this.fail(name, 'it is no line of text');
  }

  bytes(name: string, value: Uint8Array): void {
    const at = this.#take(name, value.length);
    value.set(this.#bytes.subarray(at, at + value.length));
  }

  blob(name: string, _value: Uint8Array, max: number): Uint8Array {
    const length = this.u32(name, 0, max);
    const at = this.#take(name, length);
    return this.#bytes.slice(at, at + length);
  }

  words(name: string, value: Uint32Array): void {
    value.fill(0);
    for (let next = 0; ; ) {
      const at = this.#take(name, 8);
      const first = this.#view.getUint32(at, true);
      const count = this.#view.getUint32(at + 4, true);
      if (count === 0) {
        if (first !== value.length) this.fail(name, `it ends at ${first}, not at ${value.length}`);
        return;
      }
      // Numbers, not 32-bit integers: the sum cannot wrap.
      if (first < next || first + count > value.length) this.fail(name, `the run of ${count} at ${first} is out of place`);
      const from = this.#take(name, count * 4);
      for (let i = 0; i < count; i++) value[first + i] = this.#view.getUint32(from + i * 4, true);
      next = first + count + 1;
    }
  }

  protected override refusal(where: string, what: string): MptError {
    return refusal('restore_vgpu', `the saved state is not accepted: ${where}: ${what}`);
  }

  /** @returns where the next `size` bytes begin */
  #take(name: string, size: number): number {
    const at = this.#at;
    if (size > this.#bytes.length - at) this.fail(name, 'the section ends before it');
    this.#at = at + size;
    return at;
  }
}
