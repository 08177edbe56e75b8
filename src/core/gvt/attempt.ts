/** The end of a vGPU's life: what fails on the way must not keep the rest from being done. */
import { MptError } from '../errors.js';
import type { MptVgpuOps } from '../mpt.js';

/** @returns what it failed with */
export function attempt(run: () => void): unknown {
  try {
    run();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** @returns what detach failed with, unless the backend had let go of the vGPU before */
export function detach(handle: MptVgpuOps): unknown {
  const failure = attempt(() => handle.detachVgpu());
  return MptError.is(failure, 'DETACHED') ? undefined : failure;
}
