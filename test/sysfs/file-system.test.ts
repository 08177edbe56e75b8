/** The file system without a mount: the kernel's requests as bytes. */
import t from 'tap';
import { ENTRY, IN, INIT_ATOMIC_O_TRUNC, INIT_CACHE_SYMLINKS, INIT_OUT, Opcode, OUT, ROOT_ID } from '../../src/sysfs/abi.js';
import { FileSystem } from '../../src/sysfs/file-system.js';
import { Reply, Request, setU64 } from '../../src/sysfs/message.js';
import { Folder, Link, readOnly } from '../../src/sysfs/node.js';

function asked(root: Folder): { files: FileSystem; ask: (opcode: number, node: number, body?: Uint8Array) => DataView } {
  const files = new FileSystem({ root, owner: { uid: 0, gid: 0 }, onRefused: () => {}, onWake: () => {} });
  const [request, reply] = [new Request(), new Reply()];
  return {
    files,
    ask: (opcode, node, body = new Uint8Array(8)) => {
      request.view.setUint32(IN.OPCODE, opcode, true);
      setU64(request.view, IN.NODE, node);
      request.bytes.set(body, IN.SIZE);
      request.length = IN.SIZE + body.length;
      files.answer(request, reply, () => {});
      return reply.view;
    },
  };
}

t.test('what the kernel may remember', async (t) => {
  const { ask } = asked(new Folder().add('stays', new Folder()).add('goes', new Link('stays', false)));
  for (const [name, entry] of [
    ['stays', 3600],
    ['goes', 0],
  ] as const) {
    const found = ask(Opcode.LOOKUP, ROOT_ID, Buffer.from(`${name}\0`));
    t.equal(found.getUint32(OUT.SIZE + ENTRY.VALID, true), entry, `the name ${name}`);
    t.equal(found.getUint32(OUT.SIZE + ENTRY.ATTR_VALID, true), 3600, 'its mode and owner');
  }
  const init = new Uint8Array(Uint32Array.of(7, 38, 0, 0xffff_ffff).buffer);
  t.equal(ask(Opcode.INIT, 0, init).getUint32(OUT.SIZE + INIT_OUT.FLAGS, true), INIT_ATOMIC_O_TRUNC | INIT_CACHE_SYMLINKS);
});

t.test('whoever opens folders makes nothing grow', async (t) => {
  const { files, ask } = asked(
    new Folder().add(
      'file',
      readOnly(() => 'text'),
    ),
  );
  const file = ask(Opcode.LOOKUP, ROOT_ID, Buffer.from('file\0')).getUint32(OUT.SIZE, true);
  const before = files.held;
  for (let i = 0; i < 1000; i++) if (ask(Opcode.OPENDIR, ROOT_ID).getInt32(OUT.ERROR, true) !== 0) t.fail('an open');
  t.same(files.held, before);
  t.equal(ask(Opcode.OPEN, file).getInt32(OUT.ERROR, true), 0);
  t.same(files.held, { ...before, handles: before.handles + 1 });
});
