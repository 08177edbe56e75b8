/**
 * Resources of a vGPU that its creator sets one by one, over those of a type: as AcrnGT's creation by numbers (facts: gvt.md 5.2), checked
 * against what a GPU can give and what guest drivers can use.
 */
import { MptError } from '../errors.js';
import { type GpuSize, HOST_RESERVE, MIB } from './device-info.js';
import { RESOLUTION_LIMITS, resolutionFault } from './display/monitors.js';
import type { VgpuResources } from './resources.js';
import { findType, type VgpuType } from './types.js';

/** What may differ from the type. */
export type ExplicitResources = Partial<Pick<VgpuType, 'aperture' | 'hidden' | 'fences' | 'weight' | 'resolution'>>;

interface Limits {
  readonly least: number;
  readonly most: number;
  readonly step: number;
}

/** Bytes. Tried with the smallest and one fence: Debian's i915 comes up, with its console on a monitor of 1280x800. */
export const MIN_APERTURE = 16 * MIB;
export const MIN_HIDDEN = 32 * MIB;
/** Weights are shares of 1..256: each vGPU gets some time in each period of the schedule. */
export const MAX_WEIGHT = 256;

/** What each number is, for people, and its bounds on this GPU. */
const NUMBERS = [
  ['aperture', 'aperture', (gpu) => ({ least: MIN_APERTURE, most: gpu.aperture - HOST_RESERVE.aperture, step: MIB })],
  ['hidden', 'hidden memory', (gpu) => ({ least: MIN_HIDDEN, most: gpu.ggtt - gpu.aperture - HOST_RESERVE.hidden, step: MIB })],
  ['fences', 'number of fences', (gpu) => ({ least: 1, most: gpu.fences - HOST_RESERVE.fences, step: 1 })],
  ['weight', 'weight', () => ({ least: 1, most: MAX_WEIGHT, step: 1 })],
] as const satisfies readonly (readonly [keyof ExplicitResources, string, (gpu: GpuSize) => Limits])[];

/**
 * The type of this name, with what was set explicitly in place of its own.
 * @throws MptError BAD_TYPE; INVALID_ARGUMENT for a value that no vGPU of this GPU can have
 */
export function vgpuType(name: string, explicit: ExplicitResources, gpu: GpuSize): VgpuType {
  const type = findType(name, gpu);
  for (const [key, what, limits] of NUMBERS) {
    const value = explicit[key];
    if (value !== undefined) checkNumber(what, value, limits(gpu));
  }
  const { resolution } = explicit;
  const fault = resolution === undefined ? undefined : resolutionFault(resolution);
  if (fault !== undefined)
    throw new MptError('INVALID_ARGUMENT', fault, {
      op: 'create_vgpu',
      hint: `width ${limitsText(RESOLUTION_LIMITS.width)}, height ${limitsText(RESOLUTION_LIMITS.height)}`,
    });
  const set = Object.fromEntries(Object.entries(explicit).filter(([, value]) => value !== undefined));
  return { ...type, ...set, resolution: { ...(resolution ?? type.resolution) } };
}

/** The type that a share was taken for: the share's own sizes. */
export const typeOfShare = (type: VgpuType, { aperture, hidden, fences }: VgpuResources): VgpuType => ({
  ...type,
  aperture: aperture.size,
  hidden: hidden.size,
  fences: fences.length,
});

function checkNumber(what: string, value: number, { least, most, step }: Limits): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most && value % step === 0) return;
  const inBytes = step === MIB;
  const text = (size: number): string => (inBytes ? `${size / MIB} MiB` : `${size}`);
  throw new MptError('INVALID_ARGUMENT', `the ${what} of ${text(value)} cannot be a vGPU's on this GPU`, {
    op: 'create_vgpu',
    size: value,
    limit: value > most ? most : least,
    hint: most < least ? 'the GPU has none left beside the host' : `take ${text(least)} to ${text(most)}${inBytes ? ', in whole MiB' : ''}`,
  });
}

const limitsText = ({ least, most, step }: Limits): string => `${least} to ${most}${step === 1 ? '' : ` in steps of ${step}`}`;
