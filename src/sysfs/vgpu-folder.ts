/** `<uuid>`: one vGPU. The kernel's `remove` and `mdev_type`, a vendor's group, and what the bus can do with it. */
import { COMMON_SETTINGS, E, type Vgpu } from '../core/bus/index.js';
import { MptError } from '../core/errors.js';
import { modeOf, type TreeContext } from './mdev-tree.js';
import { Attribute, type AttributeParts, Folder, invalid, Link, readOnly } from './node.js';

type Part = (vgpu: Vgpu, context: TreeContext) => Omit<AttributeParts, 'mode'>;

/** Attributes that each vGPU has: name, mode, what reads and writes do. */
const ATTRIBUTES: readonly (readonly [name: string, mode: number, part: Part])[] = [
  ['remove', 0o200, (vgpu, { bus }) => ({ store: (text) => (flag('remove', text) ? bus.remove(vgpu.uuid) : undefined) })],
  ['reset', 0o200, (vgpu, { bus }) => ({ store: (text) => (flag('reset', text) ? bus.reset(vgpu) : undefined) })],
  ...(COMMON_SETTINGS.filter(({ live }) => live).map(
    ({ name }) =>
      [
        name,
        0o644,
        (vgpu, context) => ({ show: () => `${settingOf(vgpu, name, context)}\n`, store: (text) => context.bus.set(vgpu, name, text) }),
      ] as const,
  ) satisfies readonly (readonly [string, number, Part])[]),
  ['in_use', 0o444, (vgpu) => ({ show: () => `${vgpu.inUse ? 1 : 0}\n` })],
  ['socket', 0o444, (vgpu, { bus }) => ({ show: () => `${bus.addresses(vgpu)[0]?.address ?? ''}\n` })],
  ['vm', 0o444, (vgpu) => ({ show: () => `${vgpu.vm ?? ''}\n` })],
];

export function newVgpuFolder(vgpu: Vgpu, context: TreeContext): Folder {
  const { ops } = vgpu;
  // Its name may be another vGPU's later; what is in it stays as long as it does.
  const folder = new Folder({ lasting: false });
  const attribute = (mode: number, { show, store }: Omit<AttributeParts, 'mode'>): Attribute =>
    new Attribute({
      mode: modeOf(context, mode),
      ...(show === undefined ? {} : { show: () => here(vgpu, context, show) }),
      ...(store === undefined ? {} : { store: (text) => here(vgpu, context, () => store(text)) }),
    });
  folder.add('mdev_type', new Link(`../mdev_supported_types/${vgpu.type}`));
  const { foreground, statistics, vendor } = ops.extensions;
  for (const [name, mode, part] of ATTRIBUTES)
    if (name !== 'foreground' || foreground === true) folder.add(name, attribute(mode, part(vgpu, context)));
  if (statistics !== undefined)
    for (const name of Object.keys(statistics()))
      folder.folder('statistics').add(name, attribute(0o444, { show: () => `${statistics()[name]}\n` }));
  for (const [name, value] of Object.entries(ops.resources))
    folder.folder('resources').add(
      name,
      readOnly(() => value),
    );
  if (vendor !== undefined)
    for (const [name, value] of Object.entries(vendor.attributes))
      folder.folder(vendor.group).add(
        name,
        readOnly(() => value),
      );
  return folder;
}

/** Whoever has an attribute of a vGPU open that was removed is told so. */
function here<T>(vgpu: Vgpu, { bus }: TreeContext, action: () => T): T {
  if (bus.find(vgpu.uuid) !== vgpu) throw new MptError('NOT_FOUND', `the vGPU ${vgpu.uuid} is gone`, { op: 'attribute', errno: E.NODEV });
  return action();
}

function settingOf(vgpu: Vgpu, name: string, { bus }: TreeContext): string | number {
  const value = name === 'foreground' ? bus.foregroundOf(vgpu.driver) === vgpu : vgpu[name as 'priority' | 'weight' | 'group' | 'online'];
  return typeof value === 'boolean' ? (value ? 1 : 0) : value;
}

/** A number as kstrtoul takes it; 0 is no action. @throws MptError INVALID_ARGUMENT */
function flag(name: string, text: string): boolean {
  if (!/^\+?(\d{1,15}|0x[0-9a-f]{1,13})$/i.test(text)) throw invalid(`'${text.slice(0, 40)}' is no number for ${name}`, 'write 1');
  return Number(text) !== 0;
}
