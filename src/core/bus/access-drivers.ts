/** The access drivers of a bus. A vGPU that is online is reachable by all of them, or it is not online. */
import { MptError } from '../errors.js';
import type { AccessDriver } from './driver.js';
import { E } from './errno.js';
import type { Vgpu } from './vgpu.js';

export class AccessDrivers {
  readonly #drivers: AccessDriver[] = [];

  /** @param online are made reachable by it too. @throws MptError EXISTS, and what a probe throws; nothing is reachable by it then */
  add(driver: AccessDriver, online: readonly Vgpu[]): void {
    if (this.#drivers.some(({ name }) => name === driver.name))
      throw new MptError('EXISTS', `there is an access driver ${driver.name} already`, { op: 'register_access' });
    allOrNone(
      online,
      (vgpu) => driver.probe(vgpu),
      (vgpu) => driver.remove(vgpu),
    );
    this.#drivers.push(driver);
  }

  /** @param online none is in use. @throws MptError NOT_FOUND */
  take(name: string, online: readonly Vgpu[]): void {
    const at = this.#drivers.findIndex((driver) => driver.name === name);
    const [driver] = at < 0 ? [] : this.#drivers.splice(at, 1);
    if (driver === undefined) throw new MptError('NOT_FOUND', `there is no access driver ${name}`, { op: 'unregister_access' });
    for (const vgpu of online) driver.remove(vgpu);
  }

  /** Where a VM finds the vGPU. */
  addresses(vgpu: Vgpu): readonly { readonly access: string; readonly address: string }[] {
    return this.#drivers.flatMap((driver) => {
      const address = driver.address(vgpu);
      return address === undefined ? [] : [{ access: driver.name, address }];
    });
  }

  /** @throws MptError INVALID_ARGUMENT without the group that it needs, and what a probe throws; it stays offline then */
  goOnline(vgpu: Vgpu): void {
    if (lacksGroup(vgpu))
      throw new MptError('INVALID_ARGUMENT', `a vGPU of type ${vgpu.type} needs a group to go online`, {
        op: 'set',
        errno: E.INVAL,
        hint: 'set group first',
      });
    allOrNone(
      this.#drivers,
      (driver) => driver.probe(vgpu),
      (driver) => driver.remove(vgpu),
    );
    vgpu.online = true;
  }

  goOffline(vgpu: Vgpu): void {
    vgpu.online = false;
    for (const driver of this.#drivers) driver.remove(vgpu);
  }
}

export const lacksGroup = ({ configuration, group }: Vgpu): boolean => configuration.requiresGroup && group === '';

/** Does it for each; for none when it fails for one. @throws what it failed with */
export function allOrNone<T>(all: readonly T[], make: (one: T) => void, undo: (one: T) => void): void {
  const made: T[] = [];
  try {
    for (const one of all) {
      make(one);
      made.push(one);
    }
  } catch (error) {
    for (const one of made) undo(one);
    throw error;
  }
}
