/** attach_vgpu and detach_vgpu, broken. */
import { PAGE_SIZE, VgpuId } from '../../../src/core/addresses.js';
import { IoKind } from '../../../src/core/io-request.js';
import type { MptHandle } from '../../../src/core/mpt-handle.js';
import { PageFlag } from '../../../src/pc/address-space.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import {
  all,
  eachHandle,
  handleProperty,
  onBackend,
  onHandle,
  onRequests,
  type Patch,
  recodeBackend,
  recodeHandle,
  silentBackend,
  silentHandle,
  vagueBackend,
  vmOf,
} from '../patch.js';

/** attach_vgpu changes what it was given. */
const attaches = (change: (vgpu: { id: number; vmId: number; bdf: number }) => object): Patch =>
  onBackend('attachVgpu', (original) => (vgpu) => original({ ...vgpu, ...change(vgpu) }));

/** A refused attach gives the first handle after all. */
const givesFirst = (when: (handle: MptHandle, vmId: number) => boolean): Patch =>
  onBackend('attachVgpu', (original) => {
    let first: MptHandle | undefined;
    return (vgpu) => {
      if (first?.attached === true && first.vgpu.id === vgpu.id && when(first, vgpu.vmId)) return first;
      first = original(vgpu);
      return first;
    };
  });

const attach = mutantsOf('attach_vgpu', [
  [
    'dead-handle',
    'The handle is detached when it is given.',
    'attach/gives-a-live-handle',
    onBackend('attachVgpu', (original) => (vgpu) => {
      const handle = original(vgpu);
      handle.detachVgpu();
      return handle;
    }),
  ],
  ['wrong-number', 'The vGPU has the next number.', 'attach/gives-a-live-handle', attaches(({ id }) => ({ id: id + 1 }))],
  [
    'wrong-vm',
    'The handle names another VM.',
    'attach/gives-a-live-handle',
    eachHandle((handle) => Object.defineProperty(handle, 'vgpu', { value: { ...handle.vgpu, vmId: handle.vgpu.vmId + 1 } })),
  ],
  [
    'wrong-function',
    'The vGPU stands at the next PCI function.',
    'attach/gives-a-live-handle',
    attaches(({ bdf }) => (bdf === 0x10 ? { bdf: 0x11 } : {})),
  ],
  [
    'unknown-vm-wrong-code',
    'A VM that does not exist answers INVALID_ARGUMENT.',
    'attach/unknown-vm-never-created',
    recodeBackend('attachVgpu', 'VM_NOT_FOUND', 'INVALID_ARGUMENT'),
  ],
  [
    'unknown-vm-nan',
    'NaN names a VM.',
    'attach/unknown-vm-nan',
    onBackend('attachVgpu', (original) => (vgpu) => (Number.isNaN(vgpu.vmId) ? (undefined as never) : original(vgpu))),
  ],
  ['closed-vm', 'A destroyed VM can be attached to.', 'attach/closed-vm', silentBackend('attachVgpu', 'VM_NOT_FOUND')],
  ['twice', 'Attaching again gives the first handle.', 'attach/twice-same-vm', givesFirst((handle, vmId) => handle.vgpu.vmId === vmId)],
  [
    'twice-detaches',
    'A refused second attach detaches the first.',
    'attach/twice-same-vm',
    onBackend('attachVgpu', (original) => {
      let first: MptHandle | undefined;
      return (vgpu) => {
        try {
          first = original(vgpu);
          return first;
        } catch (error) {
          if (first?.vgpu.id === vgpu.id && first.attached) first.detachVgpu();
          throw error;
        }
      };
    }),
  ],
  ['two-vms', 'One vGPU can be in two VMs.', 'attach/twice-other-vm', givesFirst((handle, vmId) => handle.vgpu.vmId !== vmId)],
  ['same-function', 'Two vGPUs share a PCI function.', 'attach/same-pci-address', silentBackend('attachVgpu', 'OVERLAP')],
  [
    'names-no-function',
    'OVERLAP does not name the PCI address.',
    'attach/same-pci-address',
    vagueBackend('attachVgpu', 'OVERLAP', 'address'),
  ],
  [
    'function-across-vms',
    'A PCI address can be used once for all VMs.',
    'attach/same-pci-address-in-two-vms',
    onBackend('attachVgpu', (original, backend) => {
      const handles: MptHandle[] = [];
      return (vgpu) => {
        if (
          handles.some(
            (handle) => handle.attached && handle.vgpu.bdf === vgpu.bdf && handle.vgpu.id !== vgpu.id && handle.vgpu.vmId !== vgpu.vmId,
          )
        )
          throw backend.error('OVERLAP', 'taken', { op: 'attach_vgpu' });
        const handle = original(vgpu);
        handles.push(handle);
        return handle;
      };
    }),
  ],
  [
    'never-again',
    'A detached vGPU cannot be attached again.',
    'attach/again-after-detach',
    onBackend('attachVgpu', (original, backend) => {
      const seen = new Set<number>();
      return (vgpu) => {
        if (seen.has(vgpu.id) && backend.attachedCount === 0) throw backend.error('ALREADY_ATTACHED', 'once', { op: 'attach_vgpu' });
        const handle = original(vgpu);
        seen.add(vgpu.id);
        return handle;
      };
    }),
  ],
  [
    'one-per-vm',
    'A VM takes one vGPU only.',
    'attach/two-vgpus-one-vm',
    onBackend('attachVgpu', (original, backend) => (vgpu) => {
      if (backend.handlesOf(vgpu.vmId as never).length > 0) throw backend.error('BUSY', 'one vGPU a VM', { op: 'attach_vgpu' });
      return original(vgpu);
    }),
  ],
  ['number-zero', 'Number 0 is taken.', 'attach/vgpu-id-zero', attaches(({ id }) => (id === 0 ? { id: 1 } : {}))],
  [
    'number-clamped',
    'Numbers above 65535 are taken.',
    'attach/vgpu-id-above-16-bits',
    attaches(({ id }) => (id > 0xffff ? { id: 0xffff } : {})),
  ],
  [
    'number-last-refused',
    'The last number is refused.',
    'attach/vgpu-id-last',
    onBackend('attachVgpu', (original, backend) => (vgpu) => {
      if (vgpu.id === 0xffff) throw backend.error('INVALID_ARGUMENT', 'too high', { op: 'attach_vgpu' });
      return original(vgpu);
    }),
  ],
  ['bus-ignored', 'The bus number of the PCI address is dropped.', 'attach/pci-address-last', attaches(({ bdf }) => ({ bdf: bdf & 0xff }))],
  [
    'function-fraction',
    'A fraction of a PCI address is rounded.',
    'attach/pci-address-fraction',
    attaches(({ bdf }) => (bdf === 0.5 ? { bdf: 0 } : {})),
  ],
  ['before-init', 'It succeeds before host_init.', 'attach/before-host-init', silentBackend('attachVgpu', 'NOT_INITIALIZED')],
  [
    'closed-wrong-code',
    'A closed backend answers NOT_INITIALIZED.',
    'close/attach-vgpu-refused',
    recodeBackend('attachVgpu', 'CLOSED', 'NOT_INITIALIZED'),
  ],
  [
    'function-of-other',
    'Configuration accesses go to the first vGPU whatever the function.',
    'access/pci-two-vgpus',
    onHandle(
      'claims',
      (original, handle, backend) => (request) =>
        original(request) || (request.kind === IoKind.PCI_CONFIG && backend.handlesOf(handle.vgpu.vmId)[0] === handle),
    ),
  ],
  [
    'register-rounded',
    'A configuration access is reported at its dword.',
    'access/pci-read-size-2-at-2',
    onRequests('next', (original) => (ms) => {
      const request = original(ms);
      if (request?.kind === IoKind.PCI_CONFIG) request.address -= request.address % 4;
      return request;
    }),
  ],
  [
    'narrow-access-wide',
    'Every configuration access is reported with four bytes.',
    'access/pci-write-size-1-at-0',
    onRequests('next', (original) => (ms) => {
      const request = original(ms);
      if (request?.kind === IoKind.PCI_CONFIG) request.size = 4;
      return request;
    }),
  ],
  [
    'high-bytes-dirty',
    'Bytes beyond a port write are not zero.',
    'access/port-out-size-1',
    onRequests('next', (original) => (ms) => {
      const request = original(ms);
      if (request?.kind === IoKind.PIO && request.write && request.size < 4) request.value[0] = (request.value[0] as number) | 0x1234_0000;
      return request;
    }),
  ],
]);

/** True in a handle while it is being detached. */
const detaching = (make: (isDetaching: () => boolean) => Patch): Patch => {
  let busy = false;
  return all(
    make(() => busy),
    onHandle('detachVgpu', (original) => () => {
      busy = true;
      try {
        original();
      } finally {
        busy = false;
      }
    }),
  );
};

/** Trap areas that handles set, with whose they are: kept after the detach. */
const keptAreas =
  (use: (kept: { vmId: number; id: number; start: number; end: number; gone: boolean }[]) => Patch): Patch =>
  (backend) => {
    const kept: { vmId: number; id: number; start: number; end: number; gone: boolean }[] = [];
    all(
      use(kept),
      onHandle('setTrapArea', (original, { vgpu: { id, vmId } }) => (start, end, map) => {
        original(start, end, map);
        if (map) kept.push({ vmId, id, start, end, gone: false });
      }),
      onHandle('detachVgpu', (original, { vgpu }) => () => {
        original();
        for (const area of kept) area.gone ||= area.id === vgpu.id;
      }),
    )(backend);
  };

const detach = mutantsOf('detach_vgpu', [
  ['silent-twice', 'A second detach succeeds.', 'detach/twice', silentHandle('detachVgpu', 'DETACHED')],
  [
    'keeps-areas',
    'Trap areas stay registered: another vGPU cannot have them.',
    'detach/releases-trap-areas',
    keptAreas((kept) =>
      onHandle(
        'trapOverlapping',
        (original) => (start, end) => original(start, end) ?? kept.find((area) => area.gone && area.start <= end && start <= area.end),
      ),
    ),
  ],
  [
    'keeps-delivering',
    'Accesses to its areas still belong to the detached vGPU.',
    'detach/stops-delivery',
    keptAreas((kept) =>
      onBackend('route', (original) => (vmId, request, from) => {
        const answer = original(vmId, request, from);
        const ghost = kept.find((area) => area.gone && area.vmId === vmId && area.start <= request.address && request.address <= area.end);
        if (request.kind === IoKind.MMIO && request.vgpu === 0 && ghost !== undefined) request.vgpu = VgpuId(ghost.id);
        return answer;
      }),
    ),
  ],
  [
    'keeps-tracking',
    'Its frames stay write-protected.',
    'detach/stops-page-track',
    detaching((busy) =>
      onHandle('doDisablePageTrack', (original) => (gfn) => {
        if (!busy()) original(gfn);
      }),
    ),
  ],
  [
    'keeps-mappings',
    'Host pages stay mapped into the guest.',
    'detach/unmaps-host-frames',
    detaching((busy) =>
      onHandle('doMapGfnToMfn', (original) => (gfn, mfn, nr, map) => {
        if (map || !busy()) original(gfn, mfn, nr, map);
      }),
    ),
  ],
  [
    'keeps-pins',
    'Pinned pages of a detached vGPU count against the next one.',
    'detach/unpins-dma-pages',
    eachHandle((handle, backend) => {
      const vm = vmOf(handle);
      const map = handle.dmaMapGuestPage.bind(handle);
      const before = vm.pinnedPages;
      handle.dmaMapGuestPage = (gfn, size) => {
        if (before + handle.pinnedPages >= backend.pinLimit && before > 0)
          throw backend.error('LIMIT', 'pinned', { op: 'dma_map_guest_page' });
        return map(gfn, size);
      };
      handle.detachVgpu = ((detach) => () => {
        const held = vm.pinnedPages;
        detach();
        vm.pinnedPages = held;
      })(handle.detachVgpu.bind(handle));
    }),
  ],
  [
    'keeps-references',
    'References on the VFIO device survive.',
    'vfio-device/detach-drops-references',
    eachHandle((handle) => {
      let references = 0;
      const get = handle.getVfioDevice.bind(handle);
      handle.getVfioDevice = () => {
        get();
        references++;
      };
      Object.defineProperty(handle, 'vfioReferences', { get: () => references });
    }),
  ],
  ['still-reads', 'A detached handle still reads guest memory.', 'detach/read-gpa-refused-after', silentHandle('readGpa', 'DETACHED')],
  ['wrong-code', 'A detached handle answers CLOSED.', 'detach/write-gpa-refused-after', recodeHandle('writeGpa', 'DETACHED', 'CLOSED')],
  [
    'pvmmio-stays',
    'The register file stays mapped.',
    'pvmmio/detach-switches-off',
    detaching((busy) =>
      onHandle('doSetPvmmio', (original) => (start, end, map) => {
        if (map || !busy()) original(start, end, map);
      }),
    ),
  ],
  [
    'not-after-vm',
    'A vGPU whose VM is gone cannot be detached.',
    'vm-gone/detach-works',
    onHandle('detachVgpu', (original, handle, backend) => () => {
      if (!handle.attached && backend.attachedCount > 0) throw backend.error('VM_GONE', 'gone', { op: 'detach_vgpu' });
      original();
    }),
  ],
  [
    'vm-gone-unnoticed',
    'A handle whose VM was destroyed claims to be attached.',
    'vm-gone/read-gpa-refused',
    handleProperty('attached', () => true),
  ],
  ['vm-gone-still-reads', 'The memory of a destroyed VM is still read.', 'vm-gone/read-gpa-refused', silentHandle('readGpa', 'VM_GONE')],
  [
    'detaches-all',
    'Detaching one vGPU detaches every vGPU of the VM.',
    'attach/two-vgpus-one-vm',
    onHandle('detachVgpu', (original, handle, backend) => () => {
      const others = backend.handlesOf(handle.vgpu.vmId).filter((other) => other !== handle);
      original();
      for (const other of others) if (other.attached) other.detachVgpu();
    }),
  ],
  [
    'loses-marks',
    'Writes that another vGPU has not yet been told are lost.',
    'page-track/sync-survives-other-detach',
    onHandle('detachVgpu', (original, handle) => () => {
      if (handle.attached) for (const gfn of handle.trackedFrames()) vmOf(handle).space.setFlag(gfn, PageFlag.DIRTY, false);
      original();
    }),
  ],
  [
    'pages-stay-busy',
    'Host pages that were mapped into a destroyed VM are never free.',
    'vm-gone/host-pages-free',
    onHandle('doMapGfnToMfn', (original, _handle, backend) => (gfn, mfn, nr, map) => {
      original(gfn, mfn, nr, map);
      onBackend('requireUnused', () => () => {
        throw backend.error('BUSY', 'mapped', { op: 'release' });
      })(backend);
    }),
  ],
  ['still-attached', 'The backend still counts the vGPU as attached.', 'vm-gone/detach-works', onBackend('forget', () => () => undefined)],
  [
    'vm-stops',
    'The RAM of the VM is lost with the vGPU.',
    'detach/everything-at-once',
    onHandle('detachVgpu', (original, handle) => () => {
      const vm = vmOf(handle);
      original();
      vm.space.remove(vm.space.find(PAGE_SIZE) as never);
    }),
  ],
]);

export const ATTACH_MUTANTS: readonly Mutant[] = [...attach, ...detach];
