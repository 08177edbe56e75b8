/**
 * vGPU types: how one GPU is divided (facts: gvt.md 4.2). `GVTg_V4_n` stands for a share of about one n-th; V4 is
 * generation 8, V5 generation 9, and their shares are the same.
 */
import { MptError, type MptErrorDetails } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import { DEFAULT_GPU, GENERATIONS, type Generation, type GpuSize, HOST_RESERVE, MIB } from './device-info.js';

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

const SHARES = [
  { share: 8, aperture: 64 * MIB, hidden: 384 * MIB, resolution: { width: 1024, height: 768 } },
  { share: 4, aperture: 128 * MIB, hidden: 512 * MIB, resolution: { width: 1920, height: 1200 } },
  { share: 2, aperture: 256 * MIB, hidden: 1024 * MIB, resolution: { width: 1920, height: 1200 } },
  { share: 1, aperture: 512 * MIB, hidden: 2048 * MIB, resolution: { width: 1920, height: 1200 } },
] as const;
const PREFIX: Readonly<Record<Generation, string>> = { 8: 'GVTg_V4_', 9: 'GVTg_V5_' };
const FENCES = 4;
const WHOLE_WEIGHT = 16;

const tableOf = (generation: Generation): readonly VgpuType[] =>
  SHARES.map(({ share, ...rest }) => ({ ...rest, name: `${PREFIX[generation]}${share}`, fences: FENCES, weight: WHOLE_WEIGHT / share }));

/** All types of each generation, smallest first. */
export const VGPU_TYPES: Readonly<Record<Generation, readonly VgpuType[]>> = { 8: tableOf(8), 9: tableOf(9) };

/** The types that fit an otherwise empty GPU: the table ends at the first one whose aperture does not. */
export function typesOf(gpu: GpuSize): readonly VgpuType[] {
  const types = VGPU_TYPES[gpu.generation ?? DEFAULT_GPU.generation];
  const end = types.findIndex((type) => type.aperture > gpu.aperture - HOST_RESERVE.aperture);
  return end < 0 ? types : types.slice(0, end);
}

/** @throws MptError BAD_TYPE when the name is unknown, of another generation, or the type does not fit this GPU */
export function findType(name: string, gpu: GpuSize): VgpuType {
  const names = typesOf(gpu).map((type) => type.name);
  const known = names.length > 0 ? `types of this GPU: ${names.join(', ')}` : 'this GPU has room for no type';
  const refuse = (what: string, details: MptErrorDetails): MptError =>
    new MptError('BAD_TYPE', what, { op: 'create_vgpu', hint: known, ...details });
  const { generation = DEFAULT_GPU.generation } = gpu;
  const of = GENERATIONS.find((candidate) => VGPU_TYPES[candidate].some((type) => type.name === name));
  if (of === undefined) {
    const near = nearestName(name, names);
    throw refuse(`no vGPU type is named '${name}'`, near === undefined ? {} : { hint: `did you mean ${near}? ${known}` });
  }
  if (of !== generation) throw refuse(`the type ${name} is of generation ${of}, this GPU is of generation ${generation}`, {});
  const type = VGPU_TYPES[of].find((candidate) => candidate.name === name) as VgpuType;
  if (names.includes(name)) return type;
  const limit = gpu.aperture - HOST_RESERVE.aperture;
  throw refuse(`the type ${name} needs more aperture than the GPU can give`, { size: type.aperture, limit });
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
