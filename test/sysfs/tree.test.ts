/** The management tree as shells and programs use it: real mounts of a real daemon. */
import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, opendirSync, openSync, readlinkSync, readSync, realpathSync, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { noTree } from '../../src/sysfs/index.js';
import { uuid } from '../daemon/support.js';
import { sh, Tree } from './support.js';

const skip = noTree() ?? false;

/** As the kernel's documentation of mdev has it. Arguments: tree, GPU, type, UUID. Standard output: what each step saw. */
const MDEV_SCRIPT = `
type=$1/class/mdev_bus/$2/mdev_supported_types/$3
cat $type/name $type/device_api $type/available_instances
echo $4 > $type/create
cat $type/available_instances
ls $type/devices
readlink $1/bus/mdev/devices/$4/mdev_type
`;
const REMOVE_SCRIPT = `echo 1 > $1/bus/mdev/devices/$4/remove && cat $1/class/mdev_bus/$2/mdev_supported_types/$3/available_instances`;

t.test('the documents of mdev, in plain sh', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  for (const [gpu, type, name, count] of [
    ['0000:00:02.0', 'i915-GVTg_V4_4', 'GVTg_V4_4', 3],
    ['mbochs', 'mbochs-large', 'large', 4],
    ['mdpy', 'mdpy-xga', 'xga', 4],
  ] as const) {
    const args = [tree.root, gpu, type, uuid(1)];
    const made = await sh(MDEV_SCRIPT, ...args);
    t.same(made, {
      code: 0,
      stdout: [name, 'vfio-pci', count, count - 1, uuid(1), `../mdev_supported_types/${type}`, ''].join('\n'),
      stderr: '',
    });
    const client = tree.daemon.client(uuid(1));
    const refused = await sh(REMOVE_SCRIPT, ...args);
    t.not(refused.code, 0, 'while a VM uses it');
    t.equal(tree.write(tree.vgpu(uuid(1), 'remove'), '1'), 'EBUSY');
    t.equal(tree.read(tree.vgpu(uuid(1), 'in_use')), '1');
    client.close();
    await tree.daemon.until(new RegExp(`client gone.*${uuid(1)}`));
    t.match(await sh(REMOVE_SCRIPT, ...args), { code: 0, stdout: `${count}\n` });
    tree.daemon.stderr = '';
  }
});

/** AcrnGT's documents name /sys/kernel/gvt: in a namespace of its own it is there. */
const ACRN_SCRIPT = `
mount -t tmpfs none /sys/kernel
mkdir /sys/kernel/gvt
mount --bind $1/kernel/gvt /sys/kernel/gvt
ls /sys/kernel/gvt
echo "3,64,448,8" > /sys/kernel/gvt/control/create_gvt_instance
ls /sys/kernel/gvt
cat /sys/kernel/gvt/vm3/vgpu_id
cat $1/class/mdev_bus/0000:00:02.0/mdev_supported_types/i915-GVTg_V4_8/available_instances
echo "-3" > /sys/kernel/gvt/control/create_gvt_instance
ls /sys/kernel/gvt
cat $1/class/mdev_bus/0000:00:02.0/mdev_supported_types/i915-GVTg_V4_8/available_instances
`;

t.test("AcrnGT's nodes, at the literal /sys/kernel/gvt", { skip }, async (t) => {
  const tree = await Tree.ready(t);
  const { status, stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-eu', '-c', ACRN_SCRIPT, 'sh', tree.root], {
    encoding: 'utf8',
  });
  t.same([status, stderr], [0, '']);
  // 28 fences less 8 are 20: five vGPUs of 4.
  t.same(stdout.split('\n'), ['control', 'control', 'vm3', '1', '5', 'control', '6', '']);
  const gvt = (...more: string[]): string => tree.path('kernel/gvt', ...more);
  t.equal(statSync(gvt('control/create_gvt_instance')).mode & 0o777, 0o220);
  t.equal(tree.write(gvt('control/create_gvt_instance'), '4,64,384,4\n'), undefined);
  t.equal(statSync(gvt('vm4/vgpu_id')).mode & 0o777, 0o440);
  t.match(await tree.daemon.ask({ op: 'list' }), [{ uuid: tree.read(gvt('vm4/uuid')), vm: 4, id: 1 }]);
  const client = tree.daemon.client(tree.read(gvt('vm4/uuid')));
  t.equal(tree.write(gvt('control/create_gvt_instance'), '-4'), 'EBUSY');
  client.close();
});

t.test('discovery equals what a client reads, for every type', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  for (const { name, gpu } of await tree.daemon.ask({ op: 'types' })) {
    await tree.daemon.ask({ op: 'create', type: name, uuid: uuid(0) });
    const client = tree.daemon.client(uuid(0));
    const info = client.deviceInfo();
    const device = tree.type(`${gpu}/${name}`, 'vfio-pci/device');
    const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
    const actual: Record<string, string> = {};
    for (let i = 0; i < info.regions; i++) {
      const { flags, size, fileOffset: offset, fd } = client.regionInfo(i);
      if (fd !== undefined) closeSync(fd);
      Object.assign(actual, { [`regions/${i}/flags`]: hex(flags), [`regions/${i}/size`]: hex(size), [`regions/${i}/offset`]: hex(offset) });
    }
    for (let i = 0; i < info.irqs; i++) {
      const { flags, count } = client.irqInfo(i);
      Object.assign(actual, { [`irqs/${i}/flags`]: hex(flags), [`irqs/${i}/count`]: String(count) });
    }
    const { 'gfx_plane/dmabuf': dmabuf, 'gfx_plane/region': region, ...told } = tree.snapshot(device);
    t.same(told, actual, name);
    // Over vfio-user there is no QUERY_GFX_PLANE: by kind, as the devices' tests have it.
    t.same([dmabuf, region], gpu === 'mdpy' ? ['0', '1'] : ['1', '0'], `${name}: planes`);
    client.close();
    await tree.daemon.until(/client gone/);
    tree.daemon.stderr = '';
    await tree.daemon.ask({ op: 'remove', uuid: uuid(0) });
  }
});

t.test('what a vGPU has: settings, statistics, foreground, reset', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  for (const i of [0, 1]) t.equal(tree.write(tree.type('0000:00:02.0/i915-GVTg_V4_8', 'create'), `${uuid(i)}\n`), undefined);
  const at = (...more: string[]): string => tree.vgpu(uuid(0), ...more);
  t.match(tree.snapshot(realpathSync(at())), {
    mdev_type: 'link',
    remove: 'EACCES',
    reset: 'EACCES',
    online: '1',
    priority: '0',
    weight: '2',
    group: '',
    foreground: '0',
    in_use: '0',
    vm: '',
    'intel_vgpu/vgpu_id': '1',
    'resources/aperture': '64',
    'statistics/clients': '0',
  });
  t.equal(readlinkSync(at()), `../../../class/mdev_bus/0000:00:02.0/${uuid(0)}`);
  for (const [name, value] of Object.entries({ priority: '-7', weight: '200', group: 'vm-1', foreground: '1' })) {
    t.equal(tree.write(at(name), `${value}\n`), undefined, name);
    t.equal(tree.read(at(name)), value, `${name} is seen at once`);
  }
  t.equal(tree.write(tree.vgpu(uuid(1), 'foreground'), '1'), undefined);
  t.equal(tree.read(at('foreground')), '0', 'one of a GPU');
  const client = tree.daemon.client(uuid(0));
  client.write(7, 4, Uint8Array.of(2, 0));
  t.same([...client.read(7, 4, 2)], [2, 0]);
  t.equal(tree.write(at('reset'), '0'), undefined, '0 is no action');
  t.same([...client.read(7, 4, 2)], [2, 0]);
  t.equal(tree.write(at('reset'), '1'), undefined);
  t.same([...client.read(7, 4, 2)], [0, 0], 'the device that runs was reset');
  client.close();
  await tree.daemon.until(/client gone/);
  t.match([tree.read(at('statistics/clients')), tree.read(at('statistics/resets'))], ['1', '1']);
  t.equal(tree.write(at('online'), '0'), undefined);
  t.equal(tree.read(at('socket')), '');
});

/** Each leaves everything as it was. */
const REFUSED: readonly (readonly [where: string, text: string, errno: string, what: string])[] = [
  ...(
    [
      ['', 'nothing'],
      ['\n', 'an empty line'],
      ['x', 'a word'],
      [`${uuid(7)}0`, '37 characters'],
      [` ${uuid(7)}`, 'a space before'],
      [`${uuid(7)}\n\n`, 'two lines'],
      [`${uuid(7).slice(0, 35)}g`, 'no digit'],
      [uuid(7).replaceAll('-', '0'), 'no dashes'],
      [uuid(7).slice(0, 20), 'half a UUID'],
      [uuid(7).slice(20), 'the other half'],
      ['x'.repeat(5000), 'more than a page'],
      ['\0'.repeat(36), 'zeros'],
    ] as const
  )
    .filter(([text]) => text !== '')
    .map(([text, what]) => ['class/mdev_bus/mdpy/mdev_supported_types/mdpy-vga/create', text, 'EINVAL', what] as const),
  ['class/mdev_bus/mdpy/mdev_supported_types/mdpy-vga/create', uuid(0), 'EEXIST', 'a UUID of the same GPU'],
  ['class/mdev_bus/mdpy/mdev_supported_types/mdpy-vga/create', uuid(0).toUpperCase(), 'EEXIST', 'the same in upper case'],
  ['class/mdev_bus/mbochs/mdev_supported_types/mbochs-small/create', uuid(0), 'EEXIST', "a UUID of another GPU's"],
  ['class/mdev_bus/0000:00:02.0/mdev_supported_types/i915-GVTg_V4_2/create', uuid(7), 'ENOSPC', 'a GPU without room'],
  ['class/mdev_bus/mdpy/mdev_supported_types/mdpy-xxl/create', uuid(7), 'ENOENT', 'an unknown type'],
  ['bus/mdev/devices/X/remove', '1', 'ENOENT', 'an unknown vGPU'],
  ...(
    [
      ['remove', 'x', 'EINVAL'],
      ['remove', '-1', 'EINVAL'],
      ['remove', '1 1', 'EINVAL'],
      ['remove', '99999999999999999999', 'EINVAL'],
      ['reset', 'yes', 'EINVAL'],
      ['priority', '20', 'EINVAL'],
      ['priority', '-21', 'EINVAL'],
      ['priority', '1.5', 'EINVAL'],
      ['priority', '0x1', 'EINVAL'],
      ['weight', '0', 'EINVAL'],
      ['weight', '257', 'EINVAL'],
      ['weight', '-1', 'EINVAL'],
      ['weight', '', 'EINVAL'],
      ['group', 'a/b', 'EINVAL'],
      ['group', 'g'.repeat(65), 'EINVAL'],
      ['online', '2', 'EINVAL'],
      ['foreground', '2', 'EINVAL'],
      ['vm', '1', 'EACCES'],
      ['in_use', '1', 'EACCES'],
    ] as const
  )
    .filter(([, text]) => text !== '')
    .map(([name, text, errno]) => [`bus/mdev/devices/${uuid(0)}/${name}`, text, errno, text] as const),
  ...(
    [
      ['0,64,448,4', 'EINVAL', 'the service VM'],
      ['-1,64,448,4', 'EINVAL', 'a negative VM'],
      ['65536,64,448,4', 'EINVAL', 'past the width of a domain id'],
      ['1,0,448,4', 'EINVAL', 'no aperture'],
      ['1,-64,448,4', 'EINVAL', 'a negative aperture'],
      ['1,64,63,4', 'EINVAL', 'gm below the aperture'],
      ['1,64,448,0', 'EINVAL', 'no fences'],
      ['1,64,448,-4', 'EINVAL', 'negative fences'],
      ['1,64,448', 'EINVAL', 'three numbers'],
      ['1,64,448,4,', 'EINVAL', 'a comma at the end'],
      ['1,64,448,4,1', 'EINVAL', 'five numbers'],
      ['1,64,448,x', 'EINVAL', 'a word'],
      ['1, 64,448,4', 'EINVAL', 'a space'],
      ['99999999999,64,448,4', 'EINVAL', 'past an int'],
      [`1,64,448,${'0'.repeat(60)}4`, 'EINVAL', 'more than 63 characters'],
      ['1', 'EINVAL', 'one number that is not negative'],
      ['-9', 'EINVAL', 'a VM without a vGPU'],
      ['-', 'EINVAL', 'a sign'],
      ['1,385,448,4', 'ENOSPC', 'more aperture than the GPU has'],
      ['1,64,3201,4', 'ENOSPC', 'more hidden memory'],
      ['1,2147483647,2147483647,2147483647', 'ENOSPC', 'all that an int can say'],
      ['1,64,448,29', 'ENOSPC', 'more fences'],
      ['2,64,448,4', 'EEXIST', 'a VM that has one'],
    ] as const
  ).map(([text, errno, what]) => ['kernel/gvt/control/create_gvt_instance', text, errno, what] as const),
];

t.test('bad input: the errno, one line that says why, nothing changed', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  tree.write(tree.type('mdpy/mdpy-vga', 'create'), uuid(0));
  tree.write(tree.path('kernel/gvt/control/create_gvt_instance'), '2,200,448,4');
  await tree.daemon.until(/vm=2/);
  const before = tree.snapshot();
  for (const [where, text, errno, what] of REFUSED) {
    tree.daemon.stderr = '';
    t.equal(tree.write(tree.path(where), text), errno, `${where.split('/').at(-1)}: ${what}`);
    // Not the tree's: no such file, or not to be opened like this.
    if (errno === 'ENOENT' || errno === 'EACCES') continue;
    await tree.daemon.until(/refused/);
    const lines = tree.daemon.stderr.trimEnd().split('\n');
    t.equal(lines.length, 1, 'one line');
    t.match(
      lines[0],
      new RegExp(`^mpt: warn: access refused path=${where.replace('bus/mdev/devices', 'class/mdev_bus/mdpy')} code=[A-Z_]+ why=".*"$`),
    );
  }
  t.same(tree.snapshot(), before);
});

t.test('values at the limits are taken', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  const create = tree.path('kernel/gvt/control/create_gvt_instance');
  for (const text of ['65535,384,3200,28', '1,16,32,1', '+2,64,448,4\n']) {
    t.equal(tree.write(create, text), undefined, text);
    t.equal(tree.write(create, `-${Number.parseInt(text, 10)}`), undefined);
  }
});

t.test('an attribute that is open while its vGPU goes', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  tree.write(tree.type('mdpy/mdpy-vga', 'create'), uuid(0));
  const fd = openSync(tree.vgpu(uuid(0), 'weight'), 'r');
  tree.write(tree.vgpu(uuid(0), 'remove'), '1');
  t.throws(() => readSync(fd, new Uint8Array(10)), { code: 'ENODEV' });
  tree.write(tree.type('mdpy/mdpy-vga', 'create'), uuid(0));
  t.throws(() => readSync(fd, new Uint8Array(10)), { code: 'ENODEV' }, 'another vGPU of that name is not it');
  closeSync(fd);
  t.equal(tree.read(tree.vgpu(uuid(0), 'weight')), '1');
  t.notMatch(tree.daemon.stderr, /refused/, 'readers do not fill the log');
});

t.test('poll on available_instances', { skip }, async (t) => {
  const tree = await Tree.ready(t);
  const path = tree.type('mdpy/mdpy-vga', 'available_instances');
  const fd = openSync(path, 'r');
  readSync(fd, new Uint8Array(10), 0, 10, 0);
  const pollfd = new DataView(new ArrayBuffer(8));
  const poll = (): number => {
    pollfd.setInt32(0, fd, true);
    pollfd.setInt16(4, 2, true);
    sys.poll(new Uint8Array(pollfd.buffer), 1, 0);
    return pollfd.getInt16(6, true);
  };
  t.equal(poll(), 0, 'nothing has changed');
  // A reader that waits.
  const waiting = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.libc).then(({ libcSyscalls: sys }) => {
      const fd = sys.open(workerData.path, 0);
      sys.read(fd, new Uint8Array(10));
      const pollfd = new DataView(new ArrayBuffer(8));
      pollfd.setInt32(0, fd, true);
      pollfd.setInt16(4, 2, true);
      parentPort.postMessage('waits');
      const ready = sys.poll(new Uint8Array(pollfd.buffer), 1, 60000);
      parentPort.postMessage([ready, pollfd.getInt16(6, true)]);
    });`,
    { eval: true, workerData: { libc: new URL('../../src/native/libc.js', import.meta.url).href, path } },
  );
  const said: unknown[] = [];
  const ended = new Promise<void>((resolve) => {
    waiting.on('message', (message: unknown) => {
      said.push(message);
      if (message === 'waits') tree.write(tree.type('mdpy/mdpy-hd', 'create'), uuid(0));
      else resolve();
    });
  });
  await ended;
  t.same(said, ['waits', [1, 2 | 8]], 'PRI and ERR, as sysfs');
  t.equal(poll() & 10, 10);
  readSync(fd, new Uint8Array(10), 0, 10, 0);
  t.equal(poll(), 0, 'read again, quiet again');
  closeSync(fd);
});

t.test('permissions', { skip }, async (t) => {
  const tree = await Tree.ready(t, { config: { tree: { gid: 65_534, groupWrites: true } } });
  chmodSync(tree.daemon.folder, 0o755);
  const create = tree.type('mdpy/mdpy-vga', 'create');
  const as = (uid: number, gid: number, script: string): number | null =>
    spawnSync('sh', ['-c', script], { uid, gid, env: {}, stdio: 'ignore' }).status;
  t.match(statSync(create), { uid: 0, gid: 65_534 });
  t.equal(statSync(create).mode & 0o777, 0o220);
  t.equal(as(1234, 1234, `cat ${tree.type('mdpy/mdpy-vga', 'available_instances')}`), 0, 'everybody reads');
  t.not(as(1234, 1234, `echo ${uuid(0)} > ${create}`), 0);
  t.equal(as(1234, 65_534, `echo ${uuid(0)} > ${create}`), 0, 'the group writes');
  const weight = tree.vgpu(uuid(0), 'weight');
  t.not(as(1234, 1234, `echo 5 > ${weight}`), 0);
  chmodSync(weight, 0o666);
  t.equal(as(1234, 1234, `echo 5 > ${weight}`), 0, 'chmod holds');
  t.equal(tree.read(weight), '5');
  t.equal(as(1234, 1234, `chmod 777 ${weight}`), 1);
  t.equal(tree.write(tree.path('new'), 'x'), 'ENOENT');
  t.not(as(0, 0, `mkdir ${tree.path('new')} || rm -f ${create} || ln -s x ${tree.path('new')} || touch ${tree.path('new')}`), 0);
});

t.test('a listing in pieces, while vGPUs come and go', { skip }, async (t) => {
  const tree = await Tree.ready(t, { config: { gpus: [{ name: 'm', driver: 'mdpy', instances: 1000 }], log: { level: 'warn' } } });
  const create = tree.type('m/mdpy-vga', 'create');
  const [odd, even] = [1, 0].map((rest) => Array.from({ length: 150 }, (_, i) => uuid(2 * i + rest))) as [string[], string[]];
  for (const id of [...odd, ...even]) tree.write(create, id);
  // Node asks for one entry at a time from a buffer of 32: the kernel asks again in between.
  const folder = opendirSync(tree.type('m/mdpy-vga', 'devices'), { bufferSize: 32 });
  const seen: string[] = [];
  for (let entry = folder.readSync(); entry !== null; entry = folder.readSync()) {
    seen.push(entry.name);
    const gone = seen.length < 150 ? even[seen.length] : undefined;
    if (gone === undefined) continue;
    tree.write(tree.vgpu(gone, 'remove'), '1');
    tree.write(create, uuid(1000 + seen.length));
  }
  folder.closeSync();
  t.same(new Set(seen).size, seen.length, 'none twice');
  t.same(
    odd.filter((id) => !seen.includes(id)),
    [],
    'each that stayed',
  );
});
