/** The management tree: the bus as files. */
import type { Uuid, VgpuBus } from '../core/bus/index.js';
import { addGvtTree } from './gvt-tree.js';
import { addMdevTree } from './mdev-tree.js';
import { MountedTree, type MountOptions } from './mounted-tree.js';
import { Folder, type Owner } from './node.js';

export interface ManagementTreeOptions extends Pick<MountOptions, 'server' | 'lives' | 'onRefused' | 'onUnmounted'> {
  readonly bus: VgpuBus;
  readonly owner: Owner & { readonly groupWrites: boolean };
  readonly newUuid: () => Uuid;
}

/** The tree of a bus whose GPUs are all registered; its vGPUs may come and go. */
export function buildTree(
  { bus, owner, newUuid }: Pick<ManagementTreeOptions, 'bus' | 'owner' | 'newUuid'>,
  version: () => number,
): Folder {
  const root = new Folder();
  const context = { bus, groupWrites: owner.groupWrites, version, newUuid };
  addMdevTree(root, context);
  addGvtTree(root, context);
  return root;
}

/** @throws MptError UNAVAILABLE where it cannot be mounted, BUSY, IO */
export function mountTree(folder: string, options: ManagementTreeOptions): MountedTree {
  const { bus } = options;
  let changes = 0;
  const tree = MountedTree.mount(folder, { ...options, root: buildTree(options, () => changes) });
  const changed = (): void => {
    changes++;
    tree.files.wake();
  };
  bus.on('created', changed);
  bus.on('removed', changed);
  return tree;
}

export type { MountedTree } from './mounted-tree.js';
export { noTree } from './mounted-tree.js';
