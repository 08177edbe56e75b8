/**
 * The file system: answers the kernel's requests from a tree of nodes. It knows no descriptor: requests come and replies go through
 * buffers, so that it can be tested without a mount.
 */
import { E, errnoOf } from '../core/bus/index.js';
import { MptError } from '../core/errors.js';
import {
  ATTR,
  ATTR_OUT,
  BATCH_FORGET_IN,
  ENTRY,
  EVENT,
  FATTR,
  FOPEN_DIRECT_IO,
  INIT_ATOMIC_O_TRUNC,
  INIT_CACHE_SYMLINKS,
  INIT_IN,
  INIT_OUT,
  IO_IN,
  O_ACCMODE,
  OPEN_IN,
  OPEN_OUT,
  Opcode,
  OUT,
  POLL_IN,
  POLL_OUT_SIZE,
  POLL_SCHEDULE_NOTIFY,
  RELEASE_IN,
  ROOT_ID,
  SETATTR_IN,
  STATFS_OUT,
  VERSION,
  WRITE_OUT_SIZE,
} from './abi.js';
import { putListing } from './listing.js';
import { type Reply, type Request, setU64 } from './message.js';
import { ATTRIBUTE_MAX, Attribute, Folder, Link, type Node, type Owner } from './node.js';

/** Bytes of the payload; undefined where there is no reply; a promise for one that comes later, without a payload but that of a write. */
type Outcome = number | undefined | Promise<number>;

/** Refused without further words. */
class Refusal {
  readonly errno: number;
  constructor(errno: number) {
    this.errno = errno;
  }
}

/** Of an attribute that is open; a folder's needs nothing. */
interface Handle {
  readonly node: Node;
  /** What the last read from its start gave. */
  text?: Uint8Array;
  /** Its version then. */
  seen?: number;
  /** The kernel's handle of somebody who waits, or 0. */
  waits: number;
}

export interface FileSystemOptions {
  readonly root: Folder;
  /** Of all nodes that have none. */
  readonly owner: Owner;
  /** A store was refused, or something is wrong with us: path and reason. */
  readonly onRefused: (path: string, error: unknown) => void;
  /** The kernel's handles of those whose attribute changed. */
  readonly onWake: (kernelHandle: number) => void;
}

/**
 * Seconds that the kernel remembers a name that stays, and of every node its mode, its owner and where a link leads: a node's number is never
 * another's, and who changes them goes through the kernel.
 */
const LASTING_S = 3600;

/** Requests by number; what is missing is answered with ENOSYS, after which the kernel stops asking. */
type Handlers = Readonly<Partial<Record<number, (request: Request, reply: Reply) => Outcome>>>;

const refuse =
  (errno: number): (() => never) =>
  () => {
    throw new Refusal(errno);
  };

export class FileSystem {
  readonly #options: FileSystemOptions;
  /** Nodes that the kernel knows, how often it was told of each, and under which name. */
  readonly #known = new Map<number, { readonly node: Node; lookups: number; readonly parent: number; readonly name: string }>();
  readonly #handles = new Map<number, Handle>();
  #lastHandle = 0;
  /** Handles of which somebody waits. */
  readonly #waiting = new Set<Handle>();
  /** Of all nodes, seconds since 1970. */
  readonly #born = Math.floor(Date.now() / 1000);
  #maxWrite = ATTRIBUTE_MAX;

  constructor(options: FileSystemOptions) {
    this.#options = options;
    this.#known.set(ROOT_ID, { node: options.root, lookups: 1, parent: ROOT_ID, name: '' });
  }

  /** Nodes and handles that the kernel holds. */
  get held(): { readonly nodes: number; readonly handles: number } {
    return { nodes: this.#known.size, handles: this.#handles.size };
  }

  /** Tells those who wait for an attribute whose version changed. */
  wake(): void {
    for (const handle of this.#waiting)
      if (changed(handle)) {
        this.#waiting.delete(handle);
        this.#options.onWake(handle.waits);
        handle.waits = 0;
      }
  }

  /**
   * Answers a request. `send` gets the finished reply, at once or, for a store that takes time, later; it is not called for requests that have no
   * reply.
   */
  answer(request: Request, reply: Reply, send: (bytes: Uint8Array) => void): void {
    const { unique, node: nodeId, opcode } = request;
    let outcome: Outcome;
    try {
      const handler = this.#handlers[opcode];
      if (handler === undefined) throw new Refusal(E.NOSYS);
      outcome = handler(request, reply);
    } catch (error) {
      send(reply.finish(unique, this.#errno(error, opcode, nodeId), 0));
      return;
    }
    if (outcome === undefined) return;
    if (typeof outcome === 'number') {
      send(reply.finish(unique, 0, outcome));
      return;
    }
    outcome.then(
      (bytes) => {
        writeOut(reply, bytes);
        send(reply.finish(unique, 0, WRITE_OUT_SIZE));
      },
      (error: unknown) => send(reply.finish(unique, this.#errno(error, opcode, nodeId), 0)),
    );
  }

  readonly #handlers: Handlers = {
    [Opcode.INIT]: (request, reply) => this.#init(request, reply),
    [Opcode.LOOKUP]: (request, reply) => this.#lookup(request, reply),
    [Opcode.FORGET]: (request) => this.#forget(request.node, request.u64(0)),
    [Opcode.BATCH_FORGET]: (request) => {
      const count = Math.min(request.u32(BATCH_FORGET_IN.COUNT), (request.length - BATCH_FORGET_IN.LIST) / BATCH_FORGET_IN.EACH);
      for (let i = 0; i < count; i++) {
        const at = BATCH_FORGET_IN.LIST + i * BATCH_FORGET_IN.EACH;
        this.#forget(request.u64(at), request.u64(at + 8));
      }
      return undefined;
    },
    [Opcode.GETATTR]: (request, reply) => this.#attributesOf(this.#node(request), reply),
    [Opcode.SETATTR]: (request, reply) => this.#setAttributes(request, reply),
    [Opcode.READLINK]: (request, reply) => {
      const node = this.#node(request);
      if (!(node instanceof Link)) throw new Refusal(E.INVAL);
      return putText(reply, Buffer.from(node.target));
    },
    [Opcode.OPEN]: (request, reply) => this.#open(request, reply),
    [Opcode.READ]: (request, reply) => this.#read(request, reply),
    [Opcode.WRITE]: (request, reply) => this.#write(request, reply),
    [Opcode.POLL]: (request, reply) => this.#poll(request, reply),
    [Opcode.RELEASE]: (request) => this.#release(request),
    [Opcode.OPENDIR]: (request, reply) => {
      if (!(this.#node(request) instanceof Folder)) throw new Refusal(E.NOTDIR);
      reply.clear(OPEN_OUT.SIZE);
      return OPEN_OUT.SIZE;
    },
    [Opcode.READDIR]: (request, reply) => this.#readFolder(request, reply),
    [Opcode.RELEASEDIR]: () => 0,
    [Opcode.STATFS]: (_request, reply) => {
      reply.clear(STATFS_OUT.SIZE);
      reply.view.setUint32(OUT.SIZE + STATFS_OUT.BLOCK, ATTRIBUTE_MAX, true);
      reply.view.setUint32(OUT.SIZE + STATFS_OUT.NAME_MAX, 255, true);
      reply.view.setUint32(OUT.SIZE + STATFS_OUT.FRAGMENT, ATTRIBUTE_MAX, true);
      return STATFS_OUT.SIZE;
    },
    // Whoever waits for a store waits until it is done.
    [Opcode.INTERRUPT]: () => undefined,
    [Opcode.DESTROY]: () => undefined,
    // As sysfs refuses them.
    [Opcode.CREATE]: refuse(E.ACCES),
    [Opcode.MKNOD]: refuse(E.PERM),
    [Opcode.MKDIR]: refuse(E.PERM),
    [Opcode.SYMLINK]: refuse(E.PERM),
    [Opcode.LINK]: refuse(E.PERM),
    [Opcode.UNLINK]: refuse(E.PERM),
    [Opcode.RMDIR]: refuse(E.PERM),
    [Opcode.RENAME]: refuse(E.PERM),
    [Opcode.RENAME2]: refuse(E.PERM),
  };

  #init(request: Request, reply: Reply): number {
    reply.clear(INIT_OUT.SIZE);
    const { view } = reply;
    view.setUint32(OUT.SIZE + INIT_OUT.MAJOR, VERSION.MAJOR, true);
    view.setUint32(OUT.SIZE + INIT_OUT.MINOR, Math.min(VERSION.MINOR, request.u32(INIT_IN.MINOR)), true);
    if (request.u32(INIT_IN.MAJOR) !== VERSION.MAJOR) return INIT_OUT.SIZE;
    if (request.u32(INIT_IN.MINOR) < VERSION.LEAST_MINOR) throw new Refusal(E.NOSYS);
    view.setUint32(OUT.SIZE + INIT_OUT.READAHEAD, request.u32(INIT_IN.READAHEAD), true);
    view.setUint32(OUT.SIZE + INIT_OUT.FLAGS, request.u32(INIT_IN.FLAGS) & (INIT_ATOMIC_O_TRUNC | INIT_CACHE_SYMLINKS), true);
    view.setUint16(OUT.SIZE + INIT_OUT.BACKGROUND, 16, true);
    view.setUint16(OUT.SIZE + INIT_OUT.CONGESTION, 12, true);
    view.setUint32(OUT.SIZE + INIT_OUT.MAX_WRITE, this.#maxWrite, true);
    view.setUint32(OUT.SIZE + INIT_OUT.TIME_GRAN, 1, true);
    return INIT_OUT.SIZE;
  }

  #lookup(request: Request, reply: Reply): number {
    const folder = this.#node(request);
    if (!(folder instanceof Folder)) throw new Refusal(E.NOTDIR);
    const { name } = request;
    const node = folder.find(name);
    if (node === undefined) throw new Refusal(E.NOENT);
    const known = this.#known.get(node.id);
    if (known === undefined) this.#known.set(node.id, { node, lookups: 1, parent: request.node, name });
    else known.lookups++;
    reply.clear(ENTRY.SIZE);
    setU64(reply.view, OUT.SIZE + ENTRY.NODE, node.id);
    if (node.lasting) setU64(reply.view, OUT.SIZE + ENTRY.VALID, LASTING_S);
    setU64(reply.view, OUT.SIZE + ENTRY.ATTR_VALID, LASTING_S);
    this.#putAttributes(node, reply.view, OUT.SIZE + ENTRY.ATTR);
    return ENTRY.SIZE;
  }

  #forget(id: number, count: number): undefined {
    const known = this.#known.get(id);
    if (known === undefined || id === ROOT_ID) return undefined;
    known.lookups -= count;
    if (known.lookups <= 0) this.#known.delete(id);
    return undefined;
  }

  #attributesOf(node: Node, reply: Reply): number {
    reply.clear(ATTR_OUT.SIZE);
    setU64(reply.view, OUT.SIZE + ATTR_OUT.VALID, LASTING_S);
    this.#putAttributes(node, reply.view, OUT.SIZE + ATTR_OUT.ATTR);
    return ATTR_OUT.SIZE;
  }

  /** chmod and chown, which the kernel has allowed; sizes and times are as they are. */
  #setAttributes(request: Request, reply: Reply): number {
    const node = this.#node(request);
    const valid = request.u32(SETATTR_IN.VALID);
    if ((valid & FATTR.MODE) !== 0) node.mode = request.u32(SETATTR_IN.MODE) & 0o7777;
    if ((valid & FATTR.UID) !== 0) node.uid = request.u32(SETATTR_IN.UID);
    if ((valid & FATTR.GID) !== 0) node.gid = request.u32(SETATTR_IN.GID);
    return this.#attributesOf(node, reply);
  }

  #putAttributes(node: Node, view: DataView, at: number): void {
    const { owner } = this.#options;
    setU64(view, at + ATTR.INO, this.#inode(node));
    setU64(view, at + ATTR.BYTES, node instanceof Link ? node.target.length : node instanceof Folder ? 0 : ATTRIBUTE_MAX);
    for (const time of [ATTR.ATIME, ATTR.MTIME, ATTR.CTIME]) setU64(view, at + time, this.#born);
    view.setUint32(at + ATTR.MODE, node.kind | node.mode, true);
    view.setUint32(at + ATTR.NLINK, node instanceof Folder ? 2 : 1, true);
    view.setUint32(at + ATTR.UID, node.uid ?? owner.uid, true);
    view.setUint32(at + ATTR.GID, node.gid ?? owner.gid, true);
    view.setUint32(at + ATTR.BLOCK, ATTRIBUTE_MAX, true);
  }

  #open(request: Request, reply: Reply): number {
    const node = this.#node(request);
    if (!(node instanceof Attribute)) throw new Refusal(E.INVAL);
    const access = request.u32(OPEN_IN.FLAGS) & O_ACCMODE;
    // As sysfs does, for root too.
    if ((access !== 1 && !node.readable) || (access !== 0 && !node.writable)) throw new Refusal(E.ACCES);
    return this.#newHandle({ node, waits: 0 }, FOPEN_DIRECT_IO, reply);
  }

  #newHandle(handle: Handle, flags: number, reply: Reply): number {
    const id = ++this.#lastHandle;
    this.#handles.set(id, handle);
    reply.clear(OPEN_OUT.SIZE);
    setU64(reply.view, OUT.SIZE + OPEN_OUT.HANDLE, id);
    reply.view.setUint32(OUT.SIZE + OPEN_OUT.FLAGS, flags, true);
    return OPEN_OUT.SIZE;
  }

  #release(request: Request): number {
    const id = request.u64(RELEASE_IN.HANDLE);
    const handle = this.#handles.get(id);
    this.#handles.delete(id);
    if (handle !== undefined) this.#waiting.delete(handle);
    return 0;
  }

  #read(request: Request, reply: Reply): number {
    const handle = this.#handle(request, IO_IN.HANDLE);
    const offset = request.u64(IO_IN.OFFSET);
    const { node } = handle;
    if (!(node instanceof Attribute)) throw new Refusal(E.INVAL);
    if (offset === 0 || handle.text === undefined) {
      const { version } = node;
      if (version !== undefined) handle.seen = version;
      handle.text = Buffer.from(node.show());
    }
    return putText(reply, handle.text.subarray(offset, offset + request.u32(IO_IN.BYTES)));
  }

  #write(request: Request, reply: Reply): Outcome {
    const { node } = this.#handle(request, IO_IN.HANDLE);
    if (!(node instanceof Attribute)) throw new Refusal(E.INVAL);
    const bytes = request.u32(IO_IN.BYTES);
    const stored = node.store(request.data(IO_IN.SIZE, bytes));
    if (stored !== undefined) return stored.then(() => bytes);
    writeOut(reply, bytes);
    return WRITE_OUT_SIZE;
  }

  /** As kernfs: always readable and writable, and PRI and ERR once the value has changed since it was read. */
  #poll(request: Request, reply: Reply): number {
    const handle = this.#handle(request, POLL_IN.HANDLE);
    if (!(handle.node instanceof Attribute)) throw new Refusal(E.INVAL);
    handle.seen ??= handle.node.version ?? 0;
    if ((request.u32(POLL_IN.FLAGS) & POLL_SCHEDULE_NOTIFY) !== 0 && handle.node.version !== undefined) {
      handle.waits = request.u64(POLL_IN.KERNEL_HANDLE);
      this.#waiting.add(handle);
    }
    reply.clear(POLL_OUT_SIZE);
    reply.view.setUint32(OUT.SIZE, EVENT.IN | EVENT.OUT | (changed(handle) ? EVENT.PRI | EVENT.ERR : 0), true);
    return POLL_OUT_SIZE;
  }

  #readFolder(request: Request, reply: Reply): number {
    const folder = this.#node(request);
    if (!(folder instanceof Folder)) throw new Refusal(E.NOTDIR);
    const parent = this.#known.get(this.#known.get(request.node)?.parent ?? ROOT_ID)?.node ?? folder;
    return putListing({ folder, parent }, request, reply, (node) => this.#inode(node));
  }

  #inode(node: Node): number {
    return node === this.#options.root ? ROOT_ID : node.id;
  }

  #node(request: Request): Node {
    const known = this.#known.get(request.node);
    if (known === undefined) throw new Refusal(E.NOENT);
    return known.node;
  }

  #handle(request: Request, at: number): Handle {
    const handle = this.#handles.get(request.u64(at));
    if (handle === undefined) throw new Refusal(E.INVAL);
    return handle;
  }

  /** Who may only read shall not fill the log. */
  #errno(error: unknown, opcode: number, nodeId: number): number {
    if (error instanceof Refusal) return error.errno;
    if (opcode === Opcode.WRITE || !MptError.is(error)) this.#options.onRefused(this.#path(nodeId), error);
    return errnoOf(error);
  }

  #path(nodeId: number): string {
    const names: string[] = [];
    for (let id = nodeId; id !== ROOT_ID; ) {
      const known = this.#known.get(id);
      if (known === undefined) break;
      names.unshift(known.name);
      id = known.parent;
    }
    return names.join('/');
  }
}

const changed = ({ node, seen }: Handle): boolean => node instanceof Attribute && node.version !== undefined && node.version !== seen;

function putText(reply: Reply, text: Uint8Array): number {
  const length = Math.min(text.length, reply.room);
  reply.bytes.set(text.subarray(0, length), OUT.SIZE);
  return length;
}

function writeOut(reply: Reply, bytes: number): void {
  reply.clear(WRITE_OUT_SIZE);
  reply.view.setUint32(OUT.SIZE, bytes, true);
}
