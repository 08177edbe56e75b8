/** The fields of a saved vGPU as the parts themselves name them: the table of docs/vgpu-state.md. */
import type { StateStream } from '../../src/core/gvt/state/stream.js';
import { busy } from './busy-fixture.js';

interface Row {
  readonly field: string;
  readonly encoding: string;
  readonly range: string;
}

const U32_MAX = 0xffff_ffff;

/** Takes every way that there is through a part, and writes down what it is asked for. */
class Describer implements StateStream {
  readonly restoring = false;
  readonly rows: Row[] = [];
  /** Row of the field before. */
  #after = -1;
  readonly #path: string[] = [];

  bool(name: string, value: boolean): boolean {
    this.#note(name, 'bool', '0, 1');
    // Nobody can make a blit up: one engine has one.
    return name === 'blit' ? value : true;
  }

  u32(name: string, value: number, max = U32_MAX, min = 0): number {
    this.#note(name, 'u32', range(min, max));
    return name === 'depth' ? max : value;
  }

  integer(name: string, value: number, max: number = Number.MAX_SAFE_INTEGER, min = 0): number {
    this.#note(name, 'u64', range(min, max));
    return value;
  }

  number(name: string, value: number, max: number, min: number): number {
    this.#note(name, 'f64', range(min, max));
    return value;
  }

  text(name: string, value: string, max: number): string {
    this.#note(name, 'text', `at most ${max} bytes`);
    return value;
  }

  bytes(name: string, value: Uint8Array): void {
    this.#note(name, 'bytes', `${value.length}`);
  }

  blob(name: string, value: Uint8Array, max: number): Uint8Array {
    this.#note(name, 'blob', `at most ${max} bytes`);
    return value;
  }

  words(name: string, value: Uint32Array): void {
    this.#note(name, 'sparse', name === 'entries' && value.length > 100 ? 'two dwords an entry' : `${value.length} dwords`);
  }

  list(name: string, _count: number, max: number, item: (index: number) => void): void {
    this.#note(name, 'list', `at most ${max}`);
    this.within(`${name}[]`, () => item(0));
  }

  within(name: string, fields: () => void): void {
    this.#path.push(name);
    fields();
    this.#path.pop();
  }

  /** Values are made up: what does not go together is nobody's fault. */
  refuse(_what: string): never {
    return undefined as never;
  }

  #note(name: string, encoding: string, limits: string): void {
    const path = [...this.#path, name].join('.');
    const field = path.replace(/^(rcs|bcs|vcs|vecs)\b/, 'ENGINE').replace(/^pipe-[abc]\b/, 'pipe-X');
    const known = this.rows.findIndex((row) => row.field === field);
    if (known < 0) this.rows.splice(this.#after + 1, 0, { field, encoding, range: SAID[name] ?? limits });
    this.#after = known < 0 ? this.#after + 1 : known;
  }
}

/** Ranges that depend on other fields. */
const SAID: Readonly<Record<string, string>> = {
  ended: 'frames of 1/60 s up to now',
  'held-since': '-1, or up to now',
  'unplugged-at': '-∞ … now',
  head: 'below the size',
  tail: 'below the size',
  entry: 'ascending',
  current: '0; 1 in a list of two',
  depth: '0 … 2; 0 unless base is 2',
  directory: 'wide: one, from 1; else four, from 0; below 2^34',
  halves: 'at most one an entry',
  done: 'at most the rows',
  dwords: 'as the first of them says',
};

const NAMES: Readonly<Record<number, string>> = {
  [U32_MAX]: '2^32 - 1',
  [Number.MAX_SAFE_INTEGER]: '2^53 - 1',
  [2 ** 49]: '2^49',
  [2 ** 52]: '2^52',
  [2 ** 58]: '2^58; restored, 2^57',
  [2 ** 34 - 1]: '2^34 - 1',
  [2 ** 20 - 1]: '2^20 - 1',
  [2 ** 21]: '2^21',
};
const shown = (value: number): string => NAMES[value] ?? String(value).replace('Infinity', '∞');
const range = (min: number, max: number): string => `${shown(min)} … ${shown(max)}`;

/** Markdown: a heading and a table for each section. */
export function describeSections(): string {
  const { vgpu } = busy('fill', true, 'dp');
  vgpu.enterFailsafe('guest-error');
  const parts: string[] = [];
  for (const [name, part] of vgpu.sections) {
    const describer = new Describer();
    part.exchange(describer);
    parts.push(
      `### ${name}\n\n| field | encoding | range |\n|---|---|---|`,
      ...describer.rows.map((row) => `| \`${row.field}\` | ${row.encoding} | ${row.range} |`),
      '',
    );
  }
  return parts.join('\n').trimEnd();
}
