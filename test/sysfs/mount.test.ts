/** Where the tree is mounted, and where not: folders that are taken, full or stale, and machines without FUSE. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { MNT, mount, unmount } from '../../src/native/mount.js';
import { O } from '../../src/native/syscalls.js';
import { noTree } from '../../src/sysfs/index.js';
import { TestDaemon, uuid } from '../daemon/support.js';
import { Tree } from './support.js';

const skip = noTree() ?? false;

t.test('without FUSE the daemon runs without the tree and says so', { skip }, async (t) => {
  for (const wrapper of [
    ['unshare', '--mount', 'sh', '-c', 'mount --bind /dev/null /dev/fuse && exec "$0" "$@"'],
    ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin'],
  ]) {
    const daemon = await TestDaemon.ready(t, { wrapper, treeInFolder: true });
    t.match(daemon.stderr, /^mpt: warn: running without the tree folder=\S+ why="mount: .*; errno /m);
    t.notMatch(daemon.stdout, /tree/);
    await daemon.ask({ op: 'create', type: 'mdpy-vga', uuid: uuid(0) });
    t.equal(await daemon.stop(), 0);
  }
});

t.test('two trees, one folder', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  const { child, folder } = tree.daemon;
  for (const signal of ['SIGSTOP', 'SIGCONT'] as const) {
    child.kill(signal);
    const second = new TestDaemon({ args: ['--mount', tree.root] });
    t.equal(await second.ended, 1, `after ${signal}`);
    t.match(second.stderr, `mpt: BUSY: mount: the tree of the daemon in ${folder}/run is on ${tree.root}; stop it, or name another folder`);
  }
  t.equal(tree.read(tree.type('mdpy/mdpy-vga', 'available_instances')), '4');
});

t.test('somebody else whose file system does not answer', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mpt-silent-'));
  const fd = sys.open('/dev/fuse', O.RDWR | O.CLOEXEC);
  t.equal(mount('silent', folder, 'fuse.silent', 0, `fd=${fd},rootmode=40755,user_id=0,group_id=0`), 0);
  t.teardown(() => {
    unmount(folder, MNT.FORCE | MNT.DETACH);
    sys.close(fd);
    rmSync(folder, { recursive: true, force: true });
  });
  const daemon = new TestDaemon({ args: ['--mount', folder] });
  t.equal(await daemon.ended, 1);
  t.match(daemon.stderr, `mpt: BUSY: mount: a file system of type fuse.silent is on ${folder}; unmount it, or name another folder`);
});

t.test('a tree of another daemon that was killed is taken over', { skip }, async (t) => {
  // A name that the list of mounts has in octal.
  const folder = mkdtempSync(join(tmpdir(), 'mpt ü'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const killed = await Tree.ready(t, { folder });
  await killed.daemon.stop('SIGKILL');
  const daemon = await TestDaemon.ready(t, { args: ['--mount', killed.root] });
  t.equal(killed.read(killed.type('mdpy/mdpy-vga', 'available_instances')), '4');
  await daemon.stop();
  t.same(readdirSync(killed.root), []);
});

t.test('a folder that is not empty is not mounted on', { skip }, async (t) => {
  // Short: sockets' paths are.
  const folder = mkdtempSync(join(tmpdir(), 'mpt-full-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const [mount, config] of [
    // Its own sockets: it would wait for itself.
    [join(folder, 'run'), {}],
    [join(folder, 'sys'), { metrics: { socket: join(folder, 'sys', 'metrics.sock') } }],
  ] as const) {
    mkdirSync(mount, { recursive: true });
    const daemon = new TestDaemon({ folder, config, args: ['--mount', mount] });
    t.equal(await daemon.ended, 2);
    t.match(daemon.stderr, /^mpt: INVALID_ARGUMENT: mount: \S+ is not empty, and a mount would hide what is in it; name an empty folder/);
    t.same(
      readdirSync(mount).filter((name) => name !== 'daemon.lock'),
      [],
      'nothing is left',
    );
  }
  const nowhere = new TestDaemon({ args: ['--mount', '/proc/mpt'] });
  t.equal(await nowhere.ended, 2);
  t.match(nowhere.stderr, /^mpt: IO: mount: \/proc\/mpt cannot be mounted on; errno 2 ENOENT\n$/);
});

t.test('a tree that somebody else unmounts', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  t.equal(spawnSync('umount', [tree.root]).status, 0);
  await tree.daemon.until(/the tree was unmounted by somebody else/);
  t.equal((await tree.daemon.ask({ op: 'types' })).length, 9, 'the daemon goes on');
  t.equal(await tree.daemon.stop(), 0);
});
