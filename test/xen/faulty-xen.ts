/** Xen's calls, passed through, counted, and made to fail on request. */
import type { XenCalls } from '../../src/native/xen-calls.js';

export type XenCallName = Exclude<keyof XenCalls, 'openEventChannels' | 'domainName' | 'close'> | 'openEventChannels' | 'bindInterdomain';

/** Calls that release something: a failure there cannot be undone by anybody, so none is injected. */
export const RELEASES: readonly string[] = [
  'destroyDomain',
  'destroyIoreqServer',
  'unmapForeign',
  'unmapResource',
  'closeDeviceModel',
  'closeForeignMemory',
  'closeHypercalls',
  'closeControl',
  'close',
  'unbind',
  'notify',
  'domainName',
];

export class FaultyXen {
  /** Calls in order, by name. */
  readonly log: string[] = [];
  /** Mapped addresses of foreign memory and resources, with their pages. */
  readonly mapped = new Map<number, number>();
  /** Ports bound and not unbound. */
  readonly ports = new Set<number>();
  #failAt = -1;
  #failName: string | undefined;
  #errno = 0;
  #seen = 0;

  /** The call with this number, from 0, fails once; with a name, the call of that name and number. */
  failCall(index: number, errno: number, name?: string): void {
    this.#failAt = index;
    this.#failName = name;
    this.#errno = errno;
    this.#seen = 0;
  }

  readonly wrap = (calls: XenCalls): XenCalls => this.#proxy(calls);

  #proxy<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (object, name: string) => {
        const member = Reflect.get(object, name) as unknown;
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => {
          const failed = this.#count(name);
          if (failed !== undefined) return failed;
          const result = (member as (...args: unknown[]) => unknown).apply(object, args);
          this.#track(name, args, result);
          return name === 'openEventChannels' && typeof result === 'object' ? this.#proxy(result as object) : result;
        };
      },
    });
  }

  #count(name: string): number | undefined {
    if (RELEASES.includes(name)) return undefined;
    this.log.push(name);
    if (this.#failName !== undefined && this.#failName !== name) return undefined;
    return this.#seen++ === this.#failAt ? -this.#errno : undefined;
  }

  #track(name: string, args: readonly unknown[], result: unknown): void {
    const number = result as number;
    if (name === 'mapForeign' && number >= 0) this.mapped.set(number, (args[1] as BigUint64Array).length);
    else if (name === 'mapResource' && number >= 0) this.mapped.set(number, args[4] as number);
    else if (name === 'unmapForeign' || name === 'unmapResource') this.mapped.delete(args[0] as number);
    else if (name === 'bindInterdomain' && number >= 0) this.ports.add(number);
    else if (name === 'unbind') this.ports.delete(args[0] as number);
  }
}
