/** An order about a vGPU's state, as it is passed on to the device thread that has the vGPU. */
import { MptError } from '../core/errors.js';
import type { StateReply, StateRequest } from '../jobs/serve.js';
import type { StateOrder } from '../jobs/served-vgpu.js';
import type { StateOrderRequest } from './display/protocol.js';

/** @returns the saved vGPU where one is asked for. @throws MptError what the device thread says */
export async function passOn(
  ask: (request: StateRequest) => Promise<unknown>,
  { does, state }: StateOrderRequest,
): Promise<Uint8Array | undefined> {
  const reply = (await ask({ type: 'state', order: { does, state } as StateOrder })) as StateReply;
  if ('error' in reply) throw MptError.fromJSON(reply.error);
  return reply.state;
}
