/** The methods of the simulation that a mutant can wrap, protected ones included, with addresses as plain numbers. */
import type { DmaBlock } from '../../src/core/dma-block.js';
import type { IoRequest } from '../../src/core/io-request.js';
import type { Machine, MachineSpec } from '../../src/core/machine.js';
import type { HostPages } from '../../src/core/mpt.js';
import type { MptHandle } from '../../src/core/mpt-handle.js';

/** What attach_vgpu is given, as plain numbers. */
export interface Attachment {
  readonly id: number;
  readonly vmId: number;
  readonly bdf: number;
}

export interface BackendMethods {
  hostInit(ops: unknown): void;
  hostExit(): void;
  attachVgpu(vgpu: Attachment): MptHandle;
  fromVirtToMfn(hva: number): number;
  dom0Ready(): void;
  allocateHostPages(count: number): HostPages;
  createMachine(spec: MachineSpec): Machine;
  close(): void;
  forget(handle: MptHandle): void;
  route(vmId: number, request: IoRequest, from?: number): number;
  require(capability: string, op: string): void;
  requireUnused(pages: HostPages): void;
  doHasVm(vmId: number): boolean;
  doAttachVgpu(vgpu: Attachment): MptHandle;
  doFromVirtToMfn(hva: number): number;
  doDom0Ready(): void;
  doAllocateHostPages(count: number): HostPages;
  doCreateMachine(spec: MachineSpec): Machine;
}

export interface HandleMethods {
  detachVgpu(): void;
  injectMsi(address: number, data: number): void;
  enablePageTrack(gfn: number): void;
  disablePageTrack(gfn: number): void;
  syncPageTrack(): number;
  tracks(gfn: number): boolean;
  readGpa(gpa: number, target: Uint8Array, offset?: number, length?: number): void;
  writeGpa(gpa: number, source: Uint8Array, offset?: number, length?: number): void;
  isValidGfn(gfn: number): boolean;
  gfnToMfn(gfn: number): number;
  mapGfnToMfn(gfn: number, mfn: number, nr: number, map: boolean): void;
  mapOverlapping(first: number, last: number): boolean;
  usesHostPages(pages: HostPages): boolean;
  dmaMapGuestPage(gfn: number, size: number): number;
  dmaUnmapGuestPage(address: number): void;
  dmaPinGuestPage(address: number): void;
  view(address: number, length: number): Uint8Array;
  block(address: number): DmaBlock | undefined;
  copyFrom(address: number, target: Uint8Array, offset: number, length: number): void;
  setTrapArea(start: number, end: number, map: boolean): void;
  trapOverlapping(start: number, end: number): { start: number; end: number } | undefined;
  setPvmmio(start: number, end: number, map: boolean): void;
  setOpregion(pages: HostPages): void;
  setEdid(port: number, edid: Uint8Array): void;
  getVfioDevice(): void;
  putVfioDevice(): void;
  claims(request: IoRequest): boolean;
  doReadGpa(gpa: number, target: Uint8Array, offset: number, length: number): void;
  doWriteGpa(gpa: number, source: Uint8Array, offset: number, length: number): void;
  doIsValidGfn(gfn: number): boolean;
  doInjectMsi(address: number, data: number): void;
  doGfnToMfn(gfn: number): number;
  doDmaMap(gfn: number, size: number): number;
  doDmaUnmap(gfn: number, size: number, address: number): void;
  doDmaView(address: number, length: number): Uint8Array;
  doDmaCopyFrom(address: number, target: Uint8Array, offset: number, length: number): void;
  doOverlapsRam(start: number, end: number): boolean;
  doEnablePageTrack(gfn: number): void;
  doDisablePageTrack(gfn: number): void;
  doSyncPageTrack(written: (gfn: number) => void): void;
  doMapGfnToMfn(gfn: number, mfn: number, nr: number, map: boolean): void;
  doSetPvmmio(start: number, end: number, map: boolean): void;
  doSetOpregion(pages: HostPages): void;
  doSetEdid(port: number, edid: Uint8Array): void;
}

export interface RequestMethods {
  next(timeoutMs?: number): IoRequest | undefined;
  complete(request: IoRequest): void;
}
