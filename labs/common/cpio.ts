/** Archives that the kernel unpacks as its initramfs. */
/** A folder has no content. */
export interface Entry {
  readonly path: string;
  readonly content?: Uint8Array | string;
  readonly executable?: boolean;
}

/** An archive in the kernel's format (Documentation/driver-api/early-userspace/buffer-format.rst, "newc"). */
export function cpio(entries: readonly Entry[]): Buffer {
  return Buffer.concat([...entries, { path: 'TRAILER!!!', content: '' }].flatMap(member));
}

function member({ path, content, executable = false }: Entry, index: number): Buffer[] {
  const data = Buffer.from(content ?? '');
  const mode = content === undefined ? 0o40755 : executable ? 0o100755 : 0o100644;
  const name = Buffer.from(`${path}\0`);
  // inode, mode, uid, gid, links, mtime, size, device numbers, length of the name, no checksum
  const fields = [index + 1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return [padded(Buffer.concat([header, name])), padded(data)];
}

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
