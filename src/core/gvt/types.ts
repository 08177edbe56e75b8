/**
 * vGPU types: how one GPU is divided (facts: gvt.md 4.2). `GVTg_V4_n` stands for a share of about one n-th; V4 is
 * generation 8.
 */
import { MptError } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import { type GpuSize, HOST_RESERVE, MIB } from './device-info.js';

export interface VgpuType {
  readonly name: string;
  /** Bytes of aperture ("low graphics memory"). */
  readonly aperture: number;
  /** Bytes of hidden memory ("high graphics memory"). */
  readonly hidden: number;
  readonly fences: number;
  /** Share of engine time relative to other vGPUs. */
  readonly weight: number;
  readonly resolution: { readonly width: number; readonly height: number };
}

const row = (share: number, apertureMiB: number, hiddenMiB: number, width: number, height: number): VgpuType => ({
  name: `GVTg_V4_${share}`,
  aperture: apertureMiB * MIB,
  hidden: hiddenMiB * MIB,
  fences: 4,
  weight: 16 / share,
  resolution: { width, height },
});

/** All types, smallest first. */
export const VGPU_TYPES: readonly VgpuType[] = [
  row(8, 64, 384, 1024, 768),
  row(4, 128, 512, 1920, 1200),
  row(2, 256, 1024, 1920, 1200),
  row(1, 512, 2048, 1920, 1200),
];

/** The types that fit an otherwise empty GPU: the table ends at the first one whose aperture does not. */
export function typesOf(gpu: GpuSize): readonly VgpuType[] {
  const end = VGPU_TYPES.findIndex((type) => type.aperture > gpu.aperture - HOST_RESERVE.aperture);
  return end < 0 ? VGPU_TYPES : VGPU_TYPES.slice(0, end);
}

/** @throws MptError BAD_TYPE when the name is unknown or the type does not fit this GPU */
export function findType(name: string, gpu: GpuSize): VgpuType {
  const type = VGPU_TYPES.find((candidate) => candidate.name === name);
  const names = typesOf(gpu).map((candidate) => candidate.name);
  const known = names.length > 0 ? `types of this GPU: ${names.join(', ')}` : 'this GPU has room for no type';
  if (type === undefined) {
    const near = nearestName(name, names);
    throw new MptError('BAD_TYPE', `no vGPU type is named '${name}'`, {
      op: 'create_vgpu',
      hint: near === undefined ? known : `did you mean ${near}? ${known}`,
    });
  }
  if (!names.includes(name))
    throw new MptError('BAD_TYPE', `the type ${name} needs more aperture than the GPU can give`, {
      op: 'create_vgpu',
      size: type.aperture,
      limit: gpu.aperture - HOST_RESERVE.aperture,
      hint: known,
    });
  return type;
}

/** The five lines of a type's description, as the mdev attribute gives them. */
export const describeType = (type: VgpuType): string =>
  [
    `low_gm_size: ${type.aperture / MIB}MB`,
    `high_gm_size: ${type.hidden / MIB}MB`,
    `fence: ${type.fences}`,
    `resolution: ${type.resolution.width}x${type.resolution.height}`,
    `weight: ${type.weight}`,
  ].join('\n');
