/** uffd: how guest accesses arrive: the interpreter runs until it makes one. */
export class UffdRequests {
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
