/** `kernel/gvt`: AcrnGT's nodes (facts: gvt.md 5.1, 5.2). A VM is a number there; it has one vGPU. */
import { E, type GpuDriver, type Uuid, type Vgpu, VM } from '../core/bus/index.js';
import { MptError } from '../core/errors.js';
import { modeOf, type TreeContext } from './mdev-tree.js';
import { Attribute, Folder, invalid, readOnly } from './node.js';

/** Driver whose GPUs AcrnGT divides. */
const DRIVER = 'i915';
const TEXT_MAX = 63;
const FORM = 'VM,APERTURE,GM,FENCES to create, sizes in MiB; -VM to destroy';
/** Values are C ints. */
const INT_MAX = 0x7fff_ffff;

export function addGvtTree(root: Folder, context: TreeContext & { readonly newUuid: () => Uuid }): void {
  const { bus } = context;
  const drivers = bus.gpus.filter(({ name }) => name === DRIVER);
  if (drivers.length === 0) return;
  const gvt = root.folder('kernel').folder('gvt');
  const create = (text: string): void | Promise<void> => {
    const fields = parse(text);
    const [vm = 0, aperture = 0, gm = 0, fences = 0] = fields;
    if (fields.length === 1 && vm < 0) return destroy(vgpuOf(bus.vgpusOfVm(-vm)), -vm, context);
    if (fields.length !== 4) throw invalid(`${fields.length} numbers are no request`, FORM);
    if (vm < VM.MIN || vm > VM.MAX) throw invalid(`${vm} is no VM`, `${VM.MIN} to ${VM.MAX}`);
    if (aperture <= 0 || gm < aperture || fences <= 0) throw invalid('aperture and fences are above 0, and gm is not below aperture', FORM);
    if (vgpuOf(bus.vgpusOfVm(vm)) !== undefined)
      throw new MptError('EXISTS', `VM ${vm} has a vGPU already`, { op: 'create_gvt_instance', errno: E.EXIST });
    const type = bus.types.find(({ driver }) => driver.name === DRIVER)?.name;
    if (type === undefined)
      throw new MptError('NO_SPACE', 'no GPU has room for a vGPU beside the host', { op: 'create_gvt_instance', errno: E.NOSPC });
    const settings = { vm, aperture, hidden: gm, fences };
    bus.create({
      type,
      uuid: context.newUuid(),
      settings: Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)])),
    });
  };
  gvt.folder('control').add('create_gvt_instance', new Attribute({ mode: modeOf(context, 0o200) | 0o020, store: create }));
  const folders = new WeakMap<Vgpu, Folder>();
  const folderOf = (vgpu: Vgpu): Folder => {
    const found = folders.get(vgpu);
    if (found !== undefined) return found;
    const made = vmFolder(vgpu);
    folders.set(vgpu, made);
    return made;
  };
  gvt.grow({
    find: (name) => {
      const number = /^vm([1-9]\d{0,4})$/.exec(name)?.[1];
      const vgpu = number === undefined ? undefined : vgpuOf(bus.vgpusOfVm(Number(number)));
      return vgpu === undefined ? undefined : folderOf(vgpu);
    },
    *list(after) {
      const seen = new Set<number>();
      for (const vgpu of bus.vgpusAfter(0)) {
        const { vm, serial } = vgpu;
        if (vm === undefined || vgpuOf([vgpu]) === undefined || seen.has(vm)) continue;
        seen.add(vm);
        if (serial > after) yield [`vm${vm}`, folderOf(vgpu), serial] as const;
      }
    },
  });
}

function vmFolder(vgpu: Vgpu): Folder {
  return new Folder({ lasting: false })
    .add(
      'vgpu_id',
      readOnly(() => vgpu.ops.id, 0o440),
    )
    .add(
      'uuid',
      readOnly(() => vgpu.uuid, 0o440),
    );
}

/** The one that AcrnGT's nodes show: the VM's first of a GPU that GVT divides. */
const vgpuOf = (vgpus: readonly Vgpu[]): Vgpu | undefined => vgpus.find(({ driver }: { driver: GpuDriver }) => driver.name === DRIVER);

function destroy(vgpu: Vgpu | undefined, vm: number, { bus }: TreeContext): Promise<void> {
  if (vgpu === undefined) throw invalid(`VM ${vm} has no vGPU`, FORM);
  return bus.remove(vgpu.uuid);
}

/** Decimal integers with commas between them. */
function parse(text: string): number[] {
  if (text.length > TEXT_MAX) throw invalid(`${text.length} characters are too many`, `at most ${TEXT_MAX}`);
  const fields = text.split(',');
  const values = fields.map((field) => (/^[+-]?\d{1,10}$/.test(field) ? Number(field) : Number.NaN));
  const bad = values.findIndex((value) => !(Math.abs(value) <= INT_MAX));
  if (bad >= 0) throw invalid(`'${fields[bad]?.slice(0, 20)}' is no number`, FORM);
  return values;
}
