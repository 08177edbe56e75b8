/** A folder's listing, in pieces as the kernel asks for them. An entry's offset is its number: nothing is kept between two requests. */
import { DIRENT, IO_IN, OUT } from './abi.js';
import { type Reply, type Request, setU64 } from './message.js';
import type { Folder, Node } from './node.js';

/** Entries before the folder's own: `.` and `..`. */
const DOTS = 2;

export interface Listed {
  readonly folder: Folder;
  readonly parent: Node;
}

/** Those behind the offset that is asked for, as many as there is room for. @returns bytes of the reply */
export function putListing(listed: Listed, request: Request, reply: Reply, inode: (node: Node) => number): number {
  const room = Math.min(request.u32(IO_IN.BYTES), reply.room);
  let at = 0;
  for (const [name, node, offset] of behind(listed, request.u64(IO_IN.OFFSET))) {
    const bytes = Buffer.from(name);
    const size = Math.ceil((DIRENT.NAME + bytes.length) / 8) * 8;
    if (at + size > room) break;
    const { view } = reply;
    const start = OUT.SIZE + at;
    reply.bytes.fill(0, start, start + size);
    setU64(view, start + DIRENT.INO, inode(node));
    setU64(view, start + DIRENT.NEXT, offset);
    view.setUint32(start + DIRENT.NAME_LENGTH, bytes.length, true);
    view.setUint32(start + DIRENT.TYPE, node.kind >> 12, true);
    reply.bytes.set(bytes, start + DIRENT.NAME);
    at += size;
  }
  return at;
}

function* behind({ folder, parent }: Listed, offset: number): Generator<readonly [name: string, node: Node, offset: number]> {
  if (offset < 1) yield ['.', folder, 1];
  if (offset < DOTS) yield ['..', parent, DOTS];
  for (const [name, node, number] of folder.list(Math.max(0, offset - DOTS))) yield [name, node, DOTS + number];
}
