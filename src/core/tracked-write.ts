/** One trapped write, delivered to every vGPU that tracks the frame: for a backend's `requests.ts`. */
import type { IoRequest } from './io-request.js';

/** `MptBackend.route` for one VM. */
export type Route = (request: IoRequest, from?: number) => number;

export class TrackedWrite {
  /** Position to go on from; 0 when every tracker was told. */
  #from = 0;
  /** What was written: a handler may have changed the request's value. */
  readonly #value = new Uint32Array(2);

  /** More vGPUs may have to be told of the last write. */
  get pending(): boolean {
    return this.#from > 0;
  }

  /** Remembers a WP request after it was routed. @param from the route's answer */
  delivered(request: IoRequest, from: number): void {
    this.#from = from;
    this.#value.set(request.value);
  }

  /** Fills the request in again for the next tracker. @returns false when there is none */
  next(request: IoRequest, route: Route): boolean {
    this.#from = route(request, this.#from);
    if (this.#from === 0) return false;
    request.value.set(this.#value);
    return true;
  }

  /** Forgets the write: the guest that made it is gone. */
  clear(): void {
    this.#from = 0;
  }
}
