/** A GVT-g vGPU on a vfio-user socket. */
import { MptError } from '../core/errors.js';
import type { JobContext } from '../device-thread/protocol.js';
import type { Served, ServeHooks, ServeInput } from './serve.js';

export function openGvt(_input: ServeInput, _hooks: ServeHooks, _context: JobContext): Served {
  throw new MptError('UNSUPPORTED', 'not yet', { op: 'serve' });
}
