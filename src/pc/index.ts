/**
 * An interpreted PC: a CPU, a local APIC and memory, for a backend whose VMs have no processor of their own. What a hypervisor does
 * in hardware happens here in this process, one instruction at a time.
 */
export { AddressSpace, type Mapping, makeMapping, PageFlag } from './address-space.js';
export { Pc, type PcOptions } from './pc.js';
export { PcRequests } from './requests.js';
