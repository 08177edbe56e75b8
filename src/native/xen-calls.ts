/**
 * The calls that the Xen backend makes, as an injectable interface: through Xen's libraries (`xen-libraries.ts`), or by the
 * kernel's own ioctls for those parts whose library is missing (`backends/xen/raw-calls.ts`). Tests inject failures by
 * wrapping it.
 *
 * Convention, as in `Syscalls`: a call returns its result, or minus the errno, and never throws. Addresses and frame
 * numbers are numbers. A buffer is read or filled during the call only.
 */

/** libxendevicemodel: operations on a domain that do not need a toolstack's rights. */
export interface XenDeviceModel {
  /** @param bufioreq HVM_IOREQSRV_BUFIOREQ_* @returns the server's id */
  createIoreqServer(domid: number, bufioreq: number): number;
  /** @returns the event-channel port of the server's buffered page */
  ioreqServerPort(domid: number, id: number): number;
  /** Claims [start, end] of the ports (type 0), of memory (1) or of PCI functions (2: `segment << 16 | bdf`) for a server. */
  mapIoRange(domid: number, id: number, type: number, start: number, end: number): number;
  unmapIoRange(domid: number, id: number, type: number, start: number, end: number): number;
  setIoreqServerState(domid: number, id: number, enabled: boolean): number;
  destroyIoreqServer(domid: number, id: number): number;
  /** Claims a memory type; flags 0 gives it up. */
  mapMemType(domid: number, id: number, type: number, flags: number): number;
  setMemType(domid: number, type: number, gfn: number, nr: number): number;
  /** @param bitmap a bit for each of the `nr` frames, filled */
  trackDirtyVram(domid: number, gfn: number, nr: number, bitmap: Uint8Array): number;
  injectMsi(domid: number, address: number, data: number): number;
  closeDeviceModel(): void;
}

/** libxenforeignmemory: other domains' memory and Xen's shared pages in this process. */
export interface XenForeignMemory {
  /**
   * Maps the frames one after another, readable and writable.
   * @param errors 0 or minus an errno for each frame, filled; pages with an error must not be touched
   * @returns the address, also when only some of the frames could be mapped
   */
  mapForeign(domid: number, gfns: BigUint64Array, errors: Int32Array): number;
  unmapForeign(address: number, pages: number): number;
  /** Maps pages of a domain's resource (ioreq server pages, grant table). @returns the address */
  mapResource(domid: number, type: number, id: number, frame: number, frames: number): number;
  unmapResource(address: number, frames: number): number;
  closeForeignMemory(): void;
}

/** libxenevtchn: one descriptor with any number of ports. */
export interface XenEventChannels {
  /** Readable when a port has an event: gives the ports, 4 bytes each. Writing a port lets its next event through. */
  readonly fd: number;
  /** @returns the local port */
  bindInterdomain(domid: number, remotePort: number): number;
  unbind(port: number): number;
  notify(port: number): number;
  close(): void;
}

/** libxencall: hypercalls whose argument is one structure, copied in and out. */
export interface XenHypercalls {
  /** GNTTABOP_*, one element. */
  grantTableOp(op: number, argument: Uint8Array): number;
  closeHypercalls(): void;
}

/** libxenctrl: what a toolstack does. Its structures change with each release of Xen. */
export interface XenControl {
  /** @param config struct xen_domctl_createdomain @returns the domain's id */
  createDomain(config: Uint8Array): number;
  destroyDomain(domid: number): number;
  maxVcpus(domid: number, count: number): number;
  /** Memory for the domain's second-level page tables. */
  setPagingAllocation(domid: number, mib: number): number;
  setMaxMem(domid: number, kib: number): number;
  /** Gives the domain memory at each of `gfns`, 2^order frames each. */
  populate(domid: number, gfns: BigUint64Array, order: number): number;
  /** Takes single frames away again. */
  decreaseReservation(domid: number, gfns: BigUint64Array): number;
  /** @returns bytes of the context; with a buffer it is filled */
  getHvmContext(domid: number, context: Uint8Array | null): number;
  setHvmContext(domid: number, context: Uint8Array): number;
  /** XEN_DOMCTL_SENDTRIGGER_* to a vCPU. */
  sendTrigger(domid: number, trigger: number, vcpu: number): number;
  pause(domid: number): number;
  unpause(domid: number): number;
  /** The first domain whose id is `first` or above. @param info xc_domaininfo_t, filled @returns its id, or -ESRCH */
  domainInfo(first: number, info: Uint8Array): number;
  /** @returns the highest frame of the guest's map */
  maximumGfn(domid: number): number;
  /** Replaces each frame number by its type (XEN_DOMCTL_PFINFO_* in bits 31-28). */
  pageTypes(domid: number, gfns: BigUint64Array): number;
  iomemPermission(domid: number, mfn: number, nr: number, allow: boolean): number;
  memoryMapping(domid: number, gfn: number, mfn: number, nr: number, add: boolean): number;
  /** XEN_DOMCTL_SHADOW_OP_* of the dirty log. @param bitmap a bit for each of `pages` frames, filled by CLEAN and PEEK */
  logDirty(domid: number, op: number, bitmap: Uint8Array | null, pages: number): number;
  /** @param info xc_physinfo_t, filled */
  physinfo(info: Uint8Array): number;
  closeControl(): void;
}

export interface XenCalls extends XenDeviceModel, XenForeignMemory, XenHypercalls, XenControl {
  openEventChannels(): XenEventChannels | number;
  /** Name of a domain in xenstore; undefined without one, or without xenstore. */
  domainName(domid: number): string | undefined;
  /** Releases every handle. */
  close(): void;
}
