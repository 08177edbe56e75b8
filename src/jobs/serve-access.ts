/** What the main thread does with the device itself: the bus's read, write, set_irqs and reset. */
import { Counter } from '../core/bus/counters.js';
import { ADDRESS_SPACES, type AddressSpace } from '../core/bus/driver.js';
import { type Errno, RegionIndex, type VfioDevice } from '../core/vfio/device.js';
import type { IrqSetRequest } from '../core/vfio/irqs.js';
import type { Counters } from './counters.js';

export interface AccessRequest {
  readonly type: 'access';
  readonly access:
    | { readonly op: 'read'; readonly space: AddressSpace; readonly offset: number; readonly length: number }
    | { readonly op: 'write'; readonly space: AddressSpace; readonly offset: number; readonly bytes: Uint8Array }
    | { readonly op: 'irqs'; readonly irqs: Omit<IrqSetRequest, 'events'> }
    | { readonly op: 'reset' };
}

export interface AccessReply {
  readonly status: Errno;
  /** Of a read. */
  readonly bytes?: Uint8Array;
}

const region = (space: AddressSpace): number => (space === 'config' ? RegionIndex.CONFIG : ADDRESS_SPACES.indexOf(space) - 1);

export function answerAccess(device: VfioDevice, { access }: AccessRequest, counters: Counters | undefined): AccessReply {
  switch (access.op) {
    case 'read': {
      const bytes = new Uint8Array(access.length);
      return { status: device.read(region(access.space), access.offset, bytes), bytes };
    }
    case 'write':
      return { status: device.write(region(access.space), access.offset, access.bytes) };
    case 'irqs':
      return { status: device.irqs.set(access.irqs) };
    case 'reset':
      counters?.add(Counter.RESETS);
      return { status: device.reset() };
  }
}
