/** On which GPU a vGPU is made. */
import { MptError } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import type { GpuDriver, VgpuConfiguration, VgpuOps } from './driver.js';
import { E } from './errno.js';
import type { SettingValue } from './settings.js';

export interface BusType {
  readonly name: string;
  readonly driver: GpuDriver;
  readonly configuration: VgpuConfiguration;
}

/**
 * Where there is a type of this name, in the order in which they are tried: a GPU that is full by its types may have room for what is set explicitly.
 * @throws MptError BAD_TYPE
 */
export function placesFor(type: string, types: readonly BusType[]): readonly [BusType, ...BusType[]] {
  const candidates = types.filter(({ name }) => name === type);
  const hasRoom = ({ driver, configuration }: BusType): boolean => driver.available(configuration) > 0;
  const [first, ...others] = [...candidates.filter(hasRoom), ...candidates.filter((one) => !hasRoom(one))];
  if (first !== undefined) return [first, ...others];
  const names = [...new Set(types.map(({ name }) => name))];
  const near = nearestName(type, names);
  throw new MptError('BAD_TYPE', `no vGPU type is named '${type.slice(0, 80)}'`, {
    op: 'create',
    errno: E.INVAL,
    hint: `${near === undefined ? '' : `did you mean ${near}? `}types: ${names.join(', ')}`,
  });
}

/** @throws MptError where none has room: what that GPU refused with that has most */
export function firstWithRoom(
  places: readonly BusType[],
  settings: ReadonlyMap<string, SettingValue>,
): BusType & { readonly ops: VgpuOps } {
  let refused: MptError | undefined;
  for (const place of places)
    try {
      return { ...place, ops: place.driver.create({ configuration: place.configuration, settings }) };
    } catch (error) {
      if (!MptError.is(error, 'NO_SPACE') && !MptError.is(error, 'LIMIT')) throw error;
      if (refused === undefined || (error.limit ?? 0) > (refused.limit ?? 0)) refused = error;
    }
  throw refused;
}
