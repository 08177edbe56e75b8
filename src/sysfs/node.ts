/** What the tree consists of: folders, attributes and links, each with an owner and a mode that can be changed as in sysfs. */

import { E } from '../core/bus/index.js';
import { MptError } from '../core/errors.js';
import { S } from './abi.js';

/** Bytes that one read or write of an attribute has at most: a page, as in sysfs. */
export const ATTRIBUTE_MAX = 4096;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

let lastId = 1;

export abstract class Node {
  /** Of the file system; never used again. */
  readonly id = ++lastId;
  abstract readonly kind: number;
  /** Permission bits. */
  mode: number;
  /** Absent: the tree's. */
  uid: number | undefined;
  gid: number | undefined;
  /** The same name means the same node as long as its folder is there: the kernel may remember it. */
  readonly lasting: boolean;

  protected constructor(mode: number, lasting: boolean) {
    this.mode = mode;
    this.lasting = lasting;
  }
}

/** A child in a listing. */
export type Entry = readonly [name: string, node: Node, number: number];

/** Numbers of children that come and go begin behind those that are always there. */
const FIRST_GROWN = 2 ** 20;

/** What gives a folder its children, apart from those that are always there. */
export interface Children {
  find(name: string): Node | undefined;
  /** Those with a larger number, in the order of their numbers, which stay theirs. */
  list(after: number): Iterable<Entry>;
}

export class Folder extends Node {
  readonly kind = S.IFDIR;
  readonly #fixed = new Map<string, Node>();
  #more: Children | undefined;

  constructor({ lasting = true }: { readonly lasting?: boolean } = {}) {
    super(0o755, lasting);
  }

  /** @returns the folder */
  add(name: string, node: Node): this {
    this.#fixed.set(name, node);
    return this;
  }

  /** A folder in it, made if it is not there. */
  folder(name: string): Folder {
    const found = this.#fixed.get(name);
    if (found instanceof Folder) return found;
    const made = new Folder();
    this.add(name, made);
    return made;
  }

  /** Children that come and go. */
  grow(children: Children): this {
    this.#more = children;
    return this;
  }

  find(name: string): Node | undefined {
    return this.#fixed.get(name) ?? this.#more?.find(name);
  }

  /**
   * Children with a larger number, in the order of their numbers, from 1. A listing that is made in pieces goes on behind the last that it told:
   * it tells of each that stays once, whatever comes and goes, and nobody keeps a copy for it.
   */
  *list(after = 0): Generator<Entry> {
    let number = 0;
    for (const [name, node] of this.#fixed) if (++number > after) yield [name, node, number];
    for (const [name, node, own] of this.#more?.list(Math.max(0, after - FIRST_GROWN)) ?? []) yield [name, node, FIRST_GROWN + own];
  }
}

export class Link extends Node {
  readonly kind = S.IFLNK;
  readonly target: string;

  constructor(target: string, lasting = true) {
    super(0o777, lasting);
    this.target = target;
  }
}

export interface AttributeParts {
  /** Permission bits; reading and writing need `show` and `store`. */
  readonly mode: number;
  /** Its text, with the line's end. @throws MptError */
  readonly show?: () => string;
  /** Takes what one write wrote, without the line's end. @throws MptError, and then nothing was changed */
  readonly store?: (text: string) => void | Promise<void>;
  /** Changes whenever the text does: for poll. Absent: it cannot be polled. */
  readonly version?: () => number;
}

export class Attribute extends Node {
  readonly kind = S.IFREG;
  readonly #parts: AttributeParts;

  constructor(parts: AttributeParts) {
    super(parts.mode, true);
    this.#parts = parts;
  }

  get readable(): boolean {
    return this.#parts.show !== undefined;
  }

  get writable(): boolean {
    return this.#parts.store !== undefined;
  }

  get version(): number | undefined {
    return this.#parts.version?.();
  }

  show(): string {
    return this.#parts.show?.() ?? '';
  }

  /** One write is one value, as in sysfs; its offset means nothing. @throws MptError */
  store(bytes: Uint8Array): void | Promise<void> {
    const text = new TextDecoder('latin1').decode(bytes);
    return this.#parts.store?.(text.endsWith('\n') ? text.slice(0, -1) : text);
  }
}

/** Read by everybody. */
export const readOnly = (show: () => string | number, mode = 0o444): Attribute => new Attribute({ mode, show: () => `${show()}\n` });

/** @throws MptError INVALID_ARGUMENT */
export const invalid = (what: string, hint: string): MptError =>
  new MptError('INVALID_ARGUMENT', what, { op: 'store', errno: E.INVAL, hint });
