/** The GPUs of a configuration as drivers. */
import { type GpuDriver, GvtGpu, SampleGpu } from '../../core/bus/index.js';
import { MptError } from '../../core/errors.js';
import { MIB } from '../../core/gvt/device-info.js';
import { deviceMemories } from '../../vfio/index.js';
import type { GpuConfig } from './config.js';
import type { ThreadHost } from './thread-host.js';

/** @throws MptError INVALID_ARGUMENT for an impossible GPU */
export function openGpu(config: GpuConfig, host: ThreadHost): GpuDriver {
  const { name: gpu, driver, hotUnplug = false, requiresGroup = false } = config;
  const common = { gpu, host, hotUnplug, requiresGroup };
  if (driver === 'i915') {
    const { apertureMiB, ggttMiB, fences } = config;
    const made = new GvtGpu({
      ...common,
      exports: true,
      size: {
        ...(apertureMiB === undefined ? {} : { aperture: apertureMiB * MIB }),
        ...(ggttMiB === undefined ? {} : { ggtt: ggttMiB * MIB }),
        ...(fences === undefined ? {} : { fences }),
      },
    });
    if (made.configurations.length === 0)
      throw new MptError(
        'INVALID_ARGUMENT',
        'no vGPU type fits beside what the host keeps: 128 MiB of aperture, 384 MiB of hidden memory, 4 fences',
        {
          op: 'create_gpu',
          hint: 'take a larger apertureMiB, ggttMiB or fences',
        },
      );
    return made;
  }
  const { instances, memoryMiB } = config;
  const capacity = driver === 'mdpy' ? instances : memoryMiB === undefined ? undefined : memoryMiB * MIB;
  return new SampleGpu({ ...common, kind: driver, memories: deviceMemories, ...(capacity === undefined ? {} : { capacity }) });
}
