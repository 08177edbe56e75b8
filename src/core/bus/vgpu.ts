/** One vGPU as the bus knows it: its name, its place, its settings, and whether it runs. */
import type { GpuDriver, RunningVgpu, VgpuConfiguration, VgpuOps } from './driver.js';
import { PRIORITY } from './settings.js';
import type { Uuid } from './uuid.js';

export interface VgpuParts {
  readonly uuid: Uuid;
  readonly serial: number;
  readonly driver: GpuDriver;
  readonly configuration: VgpuConfiguration;
  readonly ops: VgpuOps;
  readonly vm: number | undefined;
}

export class Vgpu {
  readonly uuid: Uuid;
  /** In the order of creation, from 1; never used again. */
  readonly serial: number;
  readonly driver: GpuDriver;
  readonly configuration: VgpuConfiguration;
  readonly ops: VgpuOps;
  /** The VM that it is for, where its creator said. */
  readonly vm: number | undefined;
  priority: number = PRIORITY.DEFAULT;
  weight: number;
  /** Empty: none. */
  group = '';
  /** Access drivers have been told of it. */
  online = false;
  /** While somebody uses it. */
  running: RunningVgpu | undefined;
  /** Its removal has begun. */
  leaving = false;

  constructor({ uuid, serial, driver, configuration, ops, vm }: VgpuParts) {
    this.uuid = uuid;
    this.serial = serial;
    this.driver = driver;
    this.configuration = configuration;
    this.ops = ops;
    this.vm = vm;
    this.weight = configuration.weight;
  }

  /** With the driver's name: `i915-GVTg_V4_8`. */
  get type(): string {
    return typeName(this.driver, this.configuration);
  }

  get inUse(): boolean {
    return this.running !== undefined && this.running.abandoned?.() !== true;
  }
}

/** As mdev names the type's directory. */
export const typeName = (driver: Pick<GpuDriver, 'name'>, { name }: Pick<VgpuConfiguration, 'name'>): string => `${driver.name}-${name}`;
