/** What writing and reading a section have in common: where in it they are, and the checks of numbers. */
import type { MptError } from '../../errors.js';
import { numberFault } from './limits.js';
import type { StateStream } from './stream.js';

export abstract class SectionStream implements StateStream {
  abstract readonly restoring: boolean;
  readonly #path: string[];

  /** @param section in messages */
  constructor(section: string) {
    this.#path = [section];
  }

  abstract bool(name: string, value: boolean): boolean;
  abstract u32(name: string, value: number, max?: number, min?: number): number;
  abstract integer(name: string, value: number, max?: number, min?: number): number;
  abstract number(name: string, value: number, max: number, min: number): number;
  abstract text(name: string, value: string, max: number): string;
  abstract bytes(name: string, value: Uint8Array): void;
  abstract blob(name: string, value: Uint8Array, max: number): Uint8Array;
  abstract words(name: string, value: Uint32Array): void;

  list(name: string, count: number, max: number, item: (index: number) => void): void {
    const items = this.u32(name, count, max);
    this.within(name, () => {
      for (let i = 0; i < items; i++) item(i);
    });
  }

  within(name: string, fields: () => void): void {
    this.#path.push(name);
    fields();
    this.#path.pop();
  }

  refuse(what: string): never {
    throw this.refusal(this.#path.join('.'), what);
  }

  /** What a state is refused with. @param where names of section and fields */
  protected abstract refusal(where: string, what: string): MptError;

  protected fail(name: string, what: string): never {
    return this.refuse(`${name}: ${what}`);
  }

  /** The number, if it is one that the field can have. */
  protected checked(name: string, value: number, max: number, min: number, whole: boolean): number {
    const fault = numberFault(value, max, min, whole);
    return fault === undefined ? value : this.fail(name, fault);
  }
}
