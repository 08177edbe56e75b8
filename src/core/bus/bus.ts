/**
 * The vGPU bus: which GPUs and vGPUs there are and what may be done with them. It does no I/O: GPU drivers divide their GPUs, access
 * drivers make vGPUs reachable, and who manages the bus (tree, command, metrics) listens to its events.
 *
 * Every change of the set of vGPUs is one synchronous step, so that what anybody reads is exact at any moment. Only the removal of a
 * vGPU that runs takes time, and meanwhile it keeps its resources and its UUID.
 */
import { EventEmitter } from 'eventemitter3';
import { MptError } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import { AccessDrivers, allOrNone, lacksGroup } from './access-drivers.js';
import type { AccessDriver, GpuDriver, RunningVgpu } from './driver.js';
import { E } from './errno.js';
import { type BusType, firstWithRoom, placesFor } from './placement.js';
import { COMMON_SETTINGS, parseSetting, type SettingSpec, type SettingValue } from './settings.js';
import { parseUuid, type Uuid } from './uuid.js';
import { typeName, Vgpu } from './vgpu.js';

export interface CreateSpec {
  /** With the driver's name: `i915-GVTg_V4_8`. */
  readonly type: string;
  /** Default: the first GPU that has the type and room for one more. */
  readonly gpu?: string;
  readonly uuid: string;
  /** `name=value` pairs of the common settings and the driver's. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface BusEvents {
  'gpu-added': (driver: GpuDriver) => void;
  'gpu-removed': (driver: GpuDriver) => void;
  created: (vgpu: Vgpu) => void;
  removed: (vgpu: Vgpu) => void;
  /** A setting or the state of one vGPU changed. */
  changed: (vgpu: Vgpu) => void;
  started: (vgpu: Vgpu) => void;
  stopped: (vgpu: Vgpu, why: string) => void;
}

const GPU_NAME = /^[\w][\w:.-]{0,63}$/;

export class VgpuBus extends EventEmitter<BusEvents> {
  readonly #gpus = new Map<string, GpuDriver>();
  readonly #access = new AccessDrivers();
  readonly #vgpus = new Map<Uuid, Vgpu>();
  readonly #ofGpu = new Map<GpuDriver, Set<Vgpu>>();
  #lastSerial = 0;
  /** The vGPU that a GPU's own display shows. */
  readonly #foreground = new Map<GpuDriver, Vgpu>();

  // --- drivers --------------------------------------------------------------------------------------------------------------

  /** @throws MptError INVALID_ARGUMENT for a name that is no path component, EXISTS */
  registerGpu(driver: GpuDriver): void {
    if (!GPU_NAME.test(driver.gpu))
      throw new MptError('INVALID_ARGUMENT', `a GPU cannot be named '${driver.gpu.slice(0, 80)}'`, {
        op: 'register_gpu',
        hint: 'letters, digits and _ : . -, at most 64',
      });
    if (this.#gpus.has(driver.gpu)) throw new MptError('EXISTS', `there is a GPU ${driver.gpu} already`, { op: 'register_gpu' });
    this.#gpus.set(driver.gpu, driver);
    this.#ofGpu.set(driver, new Set());
    this.emit('gpu-added', driver);
  }

  /** The GPU goes: nothing more is created on it, and its vGPUs are removed. @throws MptError BUSY while one is in use, NOT_FOUND */
  async unregisterGpu(gpu: string): Promise<void> {
    const driver = this.gpu(gpu);
    const vgpus = this.vgpusOf(driver);
    for (const vgpu of vgpus) this.#checkRemovable(vgpu);
    this.#gpus.delete(gpu);
    await Promise.all(vgpus.map((vgpu) => this.#remove(vgpu)));
    this.#ofGpu.delete(driver);
    this.emit('gpu-removed', driver);
  }

  /** The vGPUs that are online are made reachable by it too. @throws MptError EXISTS, and what a probe throws */
  registerAccess(driver: AccessDriver): void {
    this.#access.add(driver, this.#online);
  }

  /** @throws MptError BUSY while a vGPU is in use */
  unregisterAccess(name: string): void {
    const used = this.vgpus.find((vgpu) => vgpu.inUse);
    if (used !== undefined) throw busy(used, 'unregister_access');
    this.#access.take(name, this.#online);
  }

  // --- what there is --------------------------------------------------------------------------------------------------------

  get gpus(): readonly GpuDriver[] {
    return [...this.#gpus.values()];
  }

  /** @throws MptError NOT_FOUND */
  gpu(name: string): GpuDriver {
    const driver = this.#gpus.get(name);
    if (driver !== undefined) return driver;
    const near = nearestName(name, [...this.#gpus.keys()]);
    throw new MptError('NOT_FOUND', `no GPU is named '${name.slice(0, 80)}'`, {
      op: 'gpu',
      errno: E.NODEV,
      ...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
    });
  }

  get types(): readonly BusType[] {
    return this.gpus.flatMap((driver) =>
      driver.configurations.map((configuration) => ({ name: typeName(driver, configuration), driver, configuration })),
    );
  }

  /** In the order of their creation. */
  get vgpus(): readonly Vgpu[] {
    return [...this.#vgpus.values()];
  }

  get #online(): readonly Vgpu[] {
    return this.vgpus.filter(({ online }) => online);
  }

  get vgpuCount(): number {
    return this.#vgpus.size;
  }

  vgpusOf(driver: GpuDriver): readonly Vgpu[] {
    return [...(this.#ofGpu.get(driver) ?? [])];
  }

  /** Those with a larger serial, in the order of their serials; a GPU's where one is named. For who looks at a few at a time. */
  *vgpusAfter(serial: number, driver?: GpuDriver): Generator<Vgpu> {
    const all = driver === undefined ? this.#vgpus.values() : (this.#ofGpu.get(driver) ?? []);
    for (const vgpu of all) if (vgpu.serial > serial) yield vgpu;
  }

  vgpusOfVm(vm: number): readonly Vgpu[] {
    return this.vgpus.filter((vgpu) => vgpu.vm === vm);
  }

  find(uuid: string): Vgpu | undefined {
    const parsed = parseUuid(uuid);
    return parsed === undefined ? undefined : this.#vgpus.get(parsed);
  }

  /** @throws MptError INVALID_ARGUMENT for what is no UUID, NOT_FOUND */
  vgpu(uuid: string): Vgpu {
    const found = this.#vgpus.get(checkedUuid(uuid));
    if (found === undefined) throw new MptError('NOT_FOUND', `no vGPU has the UUID ${uuid}`, { op: 'vgpu', errno: E.NODEV });
    return found;
  }

  foregroundOf(driver: GpuDriver): Vgpu | undefined {
    return this.#foreground.get(driver);
  }

  /** Where a VM finds it. */
  addresses(vgpu: Vgpu): readonly { readonly access: string; readonly address: string }[] {
    return this.#access.addresses(vgpu);
  }

  /** Common settings and those of the GPU's driver. */
  settingsOf = (driver: GpuDriver): readonly SettingSpec[] => [...COMMON_SETTINGS, ...driver.settings];

  // --- creation and removal -------------------------------------------------------------------------------------------------

  /**
   * Creates a vGPU and puts it online, unless its settings say otherwise or it must first get a group.
   * @throws MptError INVALID_ARGUMENT (UUID, settings), EXISTS (UUID in use), BAD_TYPE, NOT_FOUND (GPU), NO_SPACE or LIMIT, and what an
   *   access driver throws; nothing is kept then
   */
  create({ type, gpu, uuid, settings = {} }: CreateSpec): Vgpu {
    const id = checkedUuid(uuid);
    if (this.#vgpus.has(id)) throw new MptError('EXISTS', `there is a vGPU ${id} already`, { op: 'create', errno: E.EXIST });
    if (gpu !== undefined) this.gpu(gpu);
    const places = placesFor(type, gpu === undefined ? this.types : this.types.filter(({ driver }) => driver.gpu === gpu));
    const specs = this.settingsOf(places[0].driver);
    const values = new Map<string, SettingValue>(Object.entries(settings).map(([name, text]) => [name, parseSetting(specs, name, text)]));
    const { driver, configuration, ops } = firstWithRoom(places, values);
    const vgpu = new Vgpu({ uuid: id, serial: ++this.#lastSerial, driver, configuration, ops, vm: values.get('vm') as number | undefined });
    vgpu.priority = (values.get('priority') as number | undefined) ?? vgpu.priority;
    vgpu.group = (values.get('group') as string | undefined) ?? vgpu.group;
    const weight = values.get('weight') as number | undefined;
    try {
      if (weight !== undefined) this.#setWeight(vgpu, weight);
      const online = values.get('online') as boolean | undefined;
      if (online ?? !lacksGroup(vgpu)) this.#access.goOnline(vgpu);
    } catch (error) {
      ops.destroy();
      throw error;
    }
    this.#vgpus.set(id, vgpu);
    this.#ofGpu.get(driver)?.add(vgpu);
    if (values.get('foreground') === true && ops.extensions.foreground === true) this.#foreground.set(driver, vgpu);
    this.emit('created', vgpu);
    return vgpu;
  }

  /**
   * Removes a vGPU. One that nobody uses is gone when the call returns; one that is used, and may be unplugged, when the promise resolves.
   * @throws MptError (rejects) NOT_FOUND, BUSY with the reason
   */
  async remove(uuid: string): Promise<void> {
    const vgpu = this.vgpu(uuid);
    this.#checkRemovable(vgpu);
    await this.#remove(vgpu);
  }

  /** Removes everything, used or not: the end of the bus. */
  async close(): Promise<void> {
    await Promise.all(this.vgpus.map((vgpu) => this.#remove(vgpu)));
  }

  // --- control --------------------------------------------------------------------------------------------------------------

  /** Changes several settings: all are checked before the first is changed. @throws MptError as `set` */
  setAll(vgpu: Vgpu, settings: Readonly<Record<string, string>>): void {
    for (const [name, text] of Object.entries(settings)) this.#checkSetting(vgpu, name, text);
    for (const [name, text] of Object.entries(settings)) this.set(vgpu, name, text);
  }

  /** Changes a setting by its text. @throws MptError INVALID_ARGUMENT, NOT_FOUND, BUSY, UNSUPPORTED for one that is fixed at creation */
  set(vgpu: Vgpu, name: string, text: string): void {
    const value = this.#checkSetting(vgpu, name, text);
    switch (name) {
      case 'priority':
        vgpu.running?.setPriority?.(value as number);
        vgpu.priority = value as number;
        break;
      case 'weight':
        this.#setWeight(vgpu, value as number);
        break;
      case 'group':
        this.#setGroup(vgpu, value as string);
        break;
      case 'online':
        this.#setOnline(vgpu, value as boolean);
        break;
      case 'foreground':
        this.#setForeground(vgpu, value as boolean);
        break;
    }
    this.emit('changed', vgpu);
  }

  /** Resets the device. One that does not run is as after a reset already. @throws MptError NOT_FOUND, and the device's errno */
  async reset(vgpu: Vgpu): Promise<void> {
    this.#checkHere(vgpu);
    const status = (await vgpu.running?.reset()) ?? 0;
    if (status !== 0) throw new MptError('INTERNAL', `the device of ${vgpu.uuid} refused its reset`, { op: 'reset', errno: -status });
  }

  /**
   * For access drivers: somebody uses the vGPU now.
   * @throws MptError BUSY when somebody does already, NOT_FOUND when it is offline or leaving, and what the driver throws
   */
  start(vgpu: Vgpu, attachment: unknown): RunningVgpu {
    this.#checkHere(vgpu);
    if (!vgpu.online) throw new MptError('NOT_FOUND', `the vGPU ${vgpu.uuid} is offline`, { op: 'start', errno: E.NODEV });
    if (vgpu.running !== undefined) throw busy(vgpu, 'start');
    const running = vgpu.ops.start(attachment);
    vgpu.running = running;
    void running.ended.then((why) => {
      vgpu.running = undefined;
      this.emit('stopped', vgpu, why);
    });
    this.emit('started', vgpu);
    return running;
  }

  // --- rules ----------------------------------------------------------------------------------------------------------------

  #checkSetting(vgpu: Vgpu, name: string, text: string): SettingValue {
    const specs = this.settingsOf(vgpu.driver);
    const value = parseSetting(specs, name, text);
    this.#checkHere(vgpu);
    if (specs.find((spec) => spec.name === name)?.live !== true)
      throw new MptError('UNSUPPORTED', `${name} is fixed when a vGPU is created`, { op: 'set', errno: E.PERM });
    return value;
  }

  #checkHere(vgpu: Vgpu): void {
    if (this.#vgpus.get(vgpu.uuid) !== vgpu || vgpu.leaving)
      throw new MptError('NOT_FOUND', `the vGPU ${vgpu.uuid} is gone`, { op: 'vgpu', errno: E.NODEV });
  }

  /** The hot-unplug rules: what is used stays, unless its GPU can unplug it; in a group one user is everybody's. */
  #checkRemovable(vgpu: Vgpu): void {
    this.#checkHere(vgpu);
    if (vgpu.driver.hotUnplug) return;
    const used = [vgpu, ...this.#companions(vgpu)].find(({ inUse }) => inUse);
    if (used !== undefined) throw busy(used, 'remove', vgpu);
  }

  async #remove(vgpu: Vgpu): Promise<void> {
    if (vgpu.leaving) return;
    vgpu.leaving = true;
    if (vgpu.online) this.#access.goOffline(vgpu);
    // Without a wait where there is nothing to wait for: who asks next finds it gone.
    if (vgpu.running !== undefined) await vgpu.running.shutdown();
    this.#vgpus.delete(vgpu.uuid);
    this.#ofGpu.get(vgpu.driver)?.delete(vgpu);
    if (this.#foreground.get(vgpu.driver) === vgpu) this.#foreground.delete(vgpu.driver);
    vgpu.ops.destroy();
    this.emit('removed', vgpu);
  }

  #companions(vgpu: Vgpu): readonly Vgpu[] {
    return vgpu.group === '' ? [] : this.vgpus.filter((other) => other !== vgpu && other.group === vgpu.group);
  }

  /** One of a GPU at most. @throws MptError UNSUPPORTED */
  #setForeground(vgpu: Vgpu, on: boolean): void {
    if (vgpu.ops.extensions.foreground !== true)
      throw new MptError('UNSUPPORTED', `${vgpu.driver.name} has no foreground`, { op: 'set', errno: E.OPNOTSUPP });
    const before = this.#foreground.get(vgpu.driver);
    if (on) this.#foreground.set(vgpu.driver, vgpu);
    else if (before === vgpu) this.#foreground.delete(vgpu.driver);
    if (on && before !== undefined && before !== vgpu) this.emit('changed', before);
  }

  #setWeight(vgpu: Vgpu, weight: number): void {
    vgpu.ops.setWeight?.(weight);
    vgpu.weight = weight;
  }

  #setGroup(vgpu: Vgpu, group: string): void {
    if (vgpu.inUse) throw busy(vgpu, 'set');
    if (group === '' && vgpu.online && vgpu.configuration.requiresGroup)
      throw new MptError('BUSY', `a vGPU of type ${vgpu.type} is in a group while it is online`, {
        op: 'set',
        errno: E.BUSY,
        hint: 'put it offline first',
      });
    vgpu.group = group;
  }

  /** All of a group go together: a VM has all of them or none. */
  #setOnline(vgpu: Vgpu, online: boolean): void {
    const members = [vgpu, ...this.#companions(vgpu)];
    if (!online) {
      const used = members.find(({ inUse }) => inUse);
      if (used !== undefined) throw busy(used, 'set', vgpu);
      for (const member of members) if (member.online) this.#access.goOffline(member);
      return;
    }
    allOrNone(
      members.filter((member) => !member.online && !member.leaving),
      (member) => this.#access.goOnline(member),
      (member) => this.#access.goOffline(member),
    );
  }
}

function checkedUuid(text: string): Uuid {
  const uuid = parseUuid(text);
  if (uuid !== undefined) return uuid;
  throw new MptError('INVALID_ARGUMENT', `'${text.slice(0, 64)}' is no UUID`, {
    op: 'uuid',
    errno: E.INVAL,
    hint: 'as 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001',
  });
}

const busy = (used: Vgpu, op: string, asked = used): MptError =>
  new MptError('BUSY', `the vGPU ${used.uuid} is in use${asked === used ? '' : `, and ${asked.uuid} is in its group`}`, {
    op,
    errno: E.BUSY,
    hint: 'stop the VM first',
  });
