/**
 * scaffold: how guest accesses arrive.
 *
 * Replace the interpreter behind it by the hypervisor's wait: KVM_RUN's exit, an ioreq slot behind an event channel, a request slot, a
 * message. One IoRequest object is filled in and used again; nothing is allocated on this path. `route` of the backend says whose the
 * access is. A tracked write is reported when its data is in memory, and once for each vGPU that tracks the frame.
 */
export class ScaffoldRequests {
  #source;

  constructor(source) {
    this.#source = source;
  }

  /** The next access, or undefined when the time ran out or a stop was asked. @throws MptError GUEST_FAULT, VM_GONE */
  next(timeoutMs) {
    return this.#source.next(timeoutMs);
  }

  /** Finishes the access: a read's value stands in `request.value`, and the guest goes on. */
  complete(request) {
    this.#source.complete(request);
  }

  get stopped() {
    return this.#source.stopped;
  }

  stop() {
    this.#source.stop();
  }

  /** Exits by kind, under names of your own. */
  counts() {
    return this.#source.counts();
  }

  vmGone() {
    this.#source.vmGone();
  }
}
