/** Xen's calls, passed through, counted, and made to fail on request. */
import { XEN_CONST as C, XEN_STRUCT } from '../../src/backends/xen/abi.js';
import type { XenCalls } from '../../src/native/xen-calls.js';

const { gnttab_map_grant_ref: MAP, gnttab_unmap_grant_ref: UNMAP } = XEN_STRUCT;

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
  /** Handles of grants mapped and not unmapped. */
  readonly grants = new Set<number>();
  /** Ioreq servers created and not destroyed, as `domid:id`. */
  readonly servers = new Set<string>();
  /** Frames whose memory type is not that of RAM, as `domid:gfn`. */
  readonly typed = new Set<string>();
  /** Frames mapped by memory_mapping, as `domid:gfn`. */
  readonly direct = new Set<string>();
  /** Machine frames that a domain may map, as `domid:mfn`. */
  readonly permitted = new Set<string>();
  /** Domains by the number of pauses that were not taken back. */
  readonly pauses = new Map<number, number>();
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

  /** What was made and is still there, in words. A domain takes its own with it: servers, types, mappings and rights. */
  leftovers(): string[] {
    const left: readonly (readonly [string, Iterable<unknown>])[] = [
      ['mappings', this.mapped.keys()],
      ['ports', this.ports],
      ['grants', this.grants],
      ['ioreq servers', this.servers],
      ['memory types', this.typed],
      ['direct mappings', this.direct],
      ['permitted frames', this.permitted],
      ['pauses', [...this.pauses].filter(([, count]) => count !== 0)],
    ];
    return left
      .map(([what, those]) => [what, [...those]] as const)
      .flatMap(([what, those]) => (those.length > 0 ? [`${what} ${those}`] : []));
  }

  #forgetDomain(domid: number): void {
    for (const set of [this.servers, this.typed, this.direct, this.permitted])
      for (const item of [...set]) if (item.startsWith(`${domid}:`)) set.delete(item);
    this.pauses.delete(domid);
  }

  #trackFrames(set: Set<string>, domid: unknown, first: unknown, nr: unknown, present: boolean): void {
    for (let i = 0; i < (nr as number); i++) {
      const item = `${domid}:${(first as number) + i}`;
      if (present) set.add(item);
      else set.delete(item);
    }
  }

  #trackGrant(op: unknown, argument: Uint8Array): void {
    const view = new DataView(argument.buffer, argument.byteOffset, argument.length);
    if (op === C.GNTTABOP_map_grant_ref && view.getInt16(MAP.status, true) === 0) this.grants.add(view.getUint32(MAP.handle, true));
    if (op === C.GNTTABOP_unmap_grant_ref && view.getInt16(UNMAP.status, true) === 0)
      this.grants.delete(view.getUint32(UNMAP.handle, true));
  }

  #track(name: string, args: readonly unknown[], result: unknown): void {
    const number = result as number;
    const [domid, first, second] = args;
    const pause = (step: number): void => void this.pauses.set(domid as number, (this.pauses.get(domid as number) ?? 0) + step);
    if (name === 'destroyDomain' && number >= 0) this.#forgetDomain(domid as number);
    if (name === 'createIoreqServer' && number >= 0) this.servers.add(`${domid}:${number}`);
    if (name === 'destroyIoreqServer' && number >= 0) this.servers.delete(`${domid}:${first}`);
    if (name === 'grantTableOp' && number >= 0) this.#trackGrant(args[0], args[1] as Uint8Array);
    if (name === 'setMemType' && number >= 0) this.#trackFrames(this.typed, domid, second, args[3], first !== C.HVMMEM_ram_rw);
    if (name === 'memoryMapping' && number >= 0) this.#trackFrames(this.direct, domid, first, args[3], args[4] === true);
    if (name === 'iomemPermission' && number >= 0) this.#trackFrames(this.permitted, domid, first, second, args[3] === true);
    if (name === 'pause' && number >= 0) pause(1);
    if (name === 'unpause' && number >= 0) pause(-1);
    if (name === 'mapForeign' && number >= 0) this.mapped.set(number, (args[1] as BigUint64Array).length);
    else if (name === 'mapResource' && number >= 0) this.mapped.set(number, args[4] as number);
    else if (name === 'unmapForeign' || name === 'unmapResource') this.mapped.delete(args[0] as number);
    else if (name === 'bindInterdomain' && number >= 0) this.ports.add(number);
    else if (name === 'unbind') this.ports.delete(args[0] as number);
  }
}
