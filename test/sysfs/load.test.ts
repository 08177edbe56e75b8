/** Many at once, and ends at any moment: counts stay exact, the next start is clean. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { noTree } from '../../src/sysfs/index.js';
import { Random } from '../core/random.js';
import { TestDaemon, uuid } from '../daemon/support.js';
import { sh, Tree } from './support.js';

const skip = noTree() ?? false;
const SHELLS = 8;
const OPERATIONS = 1000;
/** More by name: MPT_KILLS=50. */
const KILLS = Number(process.env['MPT_KILLS'] ?? 8);

/**
 * One shell: creates and removes vGPUs of its own, and tries to create one that all try. Arguments: tree, first UUID's number, rounds, common
 * UUID. Prints what it did.
 */
const SHELL_SCRIPT = `
type=$1/class/mdev_bus/b/mdev_supported_types/mbochs-small
i=0 created=0 removed=0 common=0
set +e
while [ $i -lt $3 ]; do
  id=$(printf '83b8f4f2-509f-382f-3c1e-%012x' $(($2 + i)))
  { echo $id > $type/create; } 2>/dev/null && created=$((created + 1))
  { echo $4 > $type/create; } 2>/dev/null && common=$((common + 1))
  [ $((i % 5)) -eq 0 ] || { { echo 1 > $type/devices/$id/remove; } 2>/dev/null && removed=$((removed + 1)); }
  { echo 1 > $type/devices/$4/remove; } 2>/dev/null && common=$((common - 1))
  i=$((i + 1))
done
echo $created $removed $common
`;

t.test(`${SHELLS} shells create and remove at once`, { skip }, async (t) => {
  const tree = await Tree.ready(t, { config: { gpus: [{ name: 'b', driver: 'mbochs', memoryMiB: 4096 }], log: { level: 'warn' } } });
  // Each round is four operations.
  const rounds = Math.ceil(OPERATIONS / SHELLS / 4);
  const common = uuid(0xf_ffff);
  const shells = Array.from({ length: SHELLS }, (_, i) =>
    sh(SHELL_SCRIPT, tree.root, String(0xe6bf_e0fa_1000 + i * 1000), String(rounds), common),
  );
  const results = await Promise.all(shells);
  const sums = [0, 0, 0];
  for (const { code, stdout, stderr } of results) {
    t.same([code, stderr], [0, '']);
    for (const [i, count] of stdout.trim().split(' ').entries()) sums[i] = (sums[i] as number) + Number(count);
  }
  const [created = 0, removed = 0, commonLeft = 0] = sums;
  t.equal(created, rounds * SHELLS, 'every own one was created');
  t.equal(removed, SHELLS * (rounds - Math.ceil(rounds / 5)), 'and every one that was to go went');
  t.ok(commonLeft === 0 || commonLeft === 1, 'the common one was never there twice');
  const left = created - removed + commonLeft;
  const folder = tree.type('b/mbochs-small');
  t.equal(tree.list(`${folder}/devices`).length, left);
  t.equal(tree.read(`${folder}/available_instances`), String(1024 - left));
  t.equal((await tree.daemon.ask({ op: 'list' })).length, left);
  t.equal(tree.daemon.left.filter((name) => name.endsWith('.sock')).length, left + 1, 'a socket each, and the control socket');
  await Promise.all(tree.list(`${folder}/devices`).map((id) => tree.write(tree.vgpu(id, 'remove'), '1')));
  t.equal(tree.read(`${folder}/available_instances`), '1024');
});

/** Mounts of trees of ours below a folder. */
const mounts = (folder: string): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(' - fuse.mpt ') && line.includes(folder));

t.test(`kill -9 at any moment, ${KILLS} times`, { skip, timeout: 590_000 }, async (t) => {
  const random = new Random(26);
  const config = { vgpus: [{ type: 'mbochs-small', uuid: uuid(1) }], log: { level: 'warn' } };
  let daemon = new TestDaemon({ config, treeInFolder: true });
  const { folder, tree } = daemon;
  for (let i = 0; i < KILLS; i++) {
    // Half of them while it starts, the others while it works.
    const working = i % 2 === 1;
    if (working) {
      await daemon.until(/^ready/m);
      void sh(
        `set +e; for i in 1 2 3 4 5 6 7 8 9; do echo ${uuid(2)} > $1/create; echo 1 > $1/devices/${uuid(2)}/remove; done 2>/dev/null`,
        `${tree}/class/mdev_bus/mdpy/mdev_supported_types/mdpy-vga`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, random.below(working ? 60 : 600)));
    await daemon.stop('SIGKILL');
    daemon = new TestDaemon({ config, treeInFolder: true, folder });
  }
  await daemon.until(/^ready/m);
  const mounted = new Tree(daemon);
  t.equal(mounts(folder).length, 1, 'one mount');
  t.same(mounted.list(mounted.path('bus/mdev/devices')), [uuid(1)], 'what the configuration says');
  t.equal(mounted.read(mounted.type('mbochs/mbochs-small', 'available_instances')), '63');
  t.equal(mounted.read(mounted.type('mdpy/mdpy-vga', 'available_instances')), '4');
  t.equal(await daemon.stop(), 0);
  t.same(mounts(folder), []);
  t.same(daemon.left, []);
  t.same(existsSync(tree) ? readdirSync(tree) : [], []);
});

t.test('1,000 vGPUs of a small type', { skip }, async (t) => {
  const tree = await Tree.ready(t, { config: { gpus: [{ name: 'm', driver: 'mdpy', instances: 1000 }], log: { level: 'warn' } } });
  const type = tree.type('m/mdpy-vga');
  for (let i = 0; i < 1000; i++) if (tree.write(`${type}/create`, uuid(i)) !== undefined) t.fail(`vGPU ${i}`);
  t.equal(tree.read(`${type}/available_instances`), '0');
  t.equal(tree.write(`${type}/create`, uuid(1000)), 'EUSERS', 'as the kernel: the budget of instances');
  t.equal(tree.list(`${type}/devices`).length, 1000);
  t.equal(tree.list(tree.path('bus/mdev/devices')).length, 1000);
  const client = tree.daemon.client(uuid(999));
  t.same([...client.read(7, 0, 2)], [0x36, 0x1b], 'each can be used');
  client.close();
  t.equal(await tree.daemon.stop(), 0);
  t.same(tree.daemon.left, []);
});
