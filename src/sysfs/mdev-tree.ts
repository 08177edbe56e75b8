/** `class/mdev_bus` and `bus/mdev`: the kernel's final form of mdev's tree (facts: gvt.md 7.1), and what vGPUs have besides. */
import { type GpuDriver, typeName, type Vgpu, type VgpuBus, type VgpuConfiguration } from '../core/bus/index.js';
import { addDiscovery } from './discovery.js';
import { Attribute, type Children, Folder, invalid, Link, type Node, readOnly } from './node.js';
import { newVgpuFolder } from './vgpu-folder.js';

export interface TreeContext {
  readonly bus: VgpuBus;
  /** The group may write what the owner may. */
  readonly groupWrites: boolean;
  /** Counts the changes of the set of vGPUs. */
  readonly version: () => number;
}

/** A mode of which the group has the owner's rights where the tree says so. */
export const modeOf = ({ groupWrites }: Pick<TreeContext, 'groupWrites'>, mode: number): number =>
  groupWrites ? mode | ((mode & 0o200) >> 3) : mode;

export function addMdevTree(root: Folder, context: TreeContext): void {
  const { bus } = context;
  const folders = new Map<Vgpu, Folder>();
  const folderOf = (vgpu: Vgpu): Folder => {
    const found = folders.get(vgpu);
    if (found !== undefined) return found;
    const made = newVgpuFolder(vgpu, context);
    folders.set(vgpu, made);
    return made;
  };
  bus.on('removed', (vgpu) => folders.delete(vgpu));
  const parents = root.folder('class').folder('mdev_bus');
  for (const driver of bus.gpus) {
    const gpu = new Folder();
    const types = gpu.folder('mdev_supported_types');
    for (const configuration of driver.configurations)
      types.add(typeName(driver, configuration), typeFolder(driver, configuration, context));
    gpu.grow(
      vgpusAs(
        bus,
        (vgpu) => (vgpu.driver === driver ? folderOf(vgpu) : undefined),
        (after) => bus.vgpusAfter(after, driver),
      ),
    );
    parents.add(driver.gpu, gpu);
  }
  const device = ({ driver, uuid }: Vgpu): string => `../../../class/mdev_bus/${driver.gpu}/${uuid}`;
  const links = linksTo(device);
  root
    .folder('bus')
    .folder('mdev')
    .add('devices', new Folder().grow(vgpusAs(bus, links, (after) => bus.vgpusAfter(after))));
}

/** vGPUs by UUID. */
function vgpusAs(bus: VgpuBus, node: (vgpu: Vgpu) => Node | undefined, after: (serial: number) => Iterable<Vgpu>): Children {
  return {
    find: (name) => {
      const vgpu = bus.find(name);
      // Only the form in which it is listed.
      return vgpu === undefined || vgpu.uuid !== name ? undefined : node(vgpu);
    },
    *list(number) {
      for (const vgpu of after(number)) {
        const found = node(vgpu);
        if (found !== undefined) yield [vgpu.uuid, found, vgpu.serial] as const;
      }
    },
  };
}

/** Links to vGPUs, the same node each time. */
function linksTo(target: (vgpu: Vgpu) => string): (vgpu: Vgpu) => Link {
  const made = new WeakMap<Vgpu, Link>();
  return (vgpu) => {
    const found = made.get(vgpu);
    if (found !== undefined) return found;
    const link = new Link(target(vgpu), false);
    made.set(vgpu, link);
    return link;
  };
}

function typeFolder(driver: GpuDriver, configuration: VgpuConfiguration, context: TreeContext): Folder {
  const { bus } = context;
  const type = typeName(driver, configuration);
  const links = linksTo((vgpu) => `../../../${vgpu.uuid}`);
  const folder = new Folder();
  folder.add(
    'create',
    new Attribute({ mode: modeOf(context, 0o200), store: (text) => void bus.create({ type, gpu: driver.gpu, uuid: checkedUuid(text) }) }),
  );
  folder.add(
    'name',
    readOnly(() => configuration.name),
  );
  folder.add(
    'description',
    readOnly(() => configuration.description),
  );
  folder.add(
    'device_api',
    readOnly(() => configuration.deviceApi),
  );
  folder.add(
    'requires_group',
    readOnly(() => (configuration.requiresGroup ? 1 : 0)),
  );
  folder.add(
    'hot_unplug',
    readOnly(() => (driver.hotUnplug ? 1 : 0)),
  );
  folder.add(
    'available_instances',
    // Every type of a GPU changes with any of its vGPUs.
    new Attribute({ mode: 0o444, show: () => `${driver.available(configuration)}\n`, version: context.version }),
  );
  folder.add(
    'devices',
    new Folder().grow(
      vgpusAs(
        bus,
        (vgpu) => (vgpu.driver === driver && vgpu.configuration === configuration ? links(vgpu) : undefined),
        (after) => bus.vgpusAfter(after, driver),
      ),
    ),
  );
  addDiscovery(folder.folder('vfio-pci').folder('device'), configuration);
  return folder;
}

const UUID_LENGTH = 36;

/** As the kernel: 36 characters, or 37 with the line's end, before anything else is looked at. */
function checkedUuid(text: string): string {
  if (text.length === UUID_LENGTH) return text;
  throw invalid(`a UUID has ${UUID_LENGTH} characters, not ${text.length}`, 'as 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001');
}
