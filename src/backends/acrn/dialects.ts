/** The two ABIs: `/dev/acrn_hsm` of mainline Linux (5.12 and later) and `/dev/acrn_vhm` of ACRN's own kernels before. */
import { ACRN_CONST, ACRN_STRUCT, HSM_IOCTL, VHM_IOCTL, VHM_STRUCT } from './abi.js';
import { type AcrnDialect, setU64 } from './calls.js';

const { acrn_vm_memmap: MEMMAP, acrn_ioreq_notify: NOTIFY, acrn_io_request: REQUEST } = ACRN_STRUCT;
const { vm_memmap: VHM_MEMMAP, ioreq_notify: VHM_NOTIFY, acrn_create_vcpu: VCPU, vhm_request: VHM_REQUEST } = VHM_STRUCT;
/** Where `AcrnDialect.created` may lay out what it passes: behind the arguments that `AcrnCalls` keeps. */
const SCRATCH = 448;
const EEXIST = 17;

export const HSM: AcrnDialect = {
  name: 'hsm',
  device: '/dev/acrn_hsm',
  sysfsClass: 'misc',
  requests: HSM_IOCTL,
  // A request that the kernel answers itself (ioeventfd) is marked here.
  ownerWord: REQUEST.kernel_handled,
  memseg(args, at, { gpa, size, type, from, rights }) {
    args.setUint32(at + MEMMAP.type, type, true);
    args.setUint32(at + MEMMAP.attr, rights, true);
    setU64(args, at + MEMMAP.user_vm_pa, gpa);
    setU64(args, at + MEMMAP.vma_base, from);
    setU64(args, at + MEMMAP.len, size);
  },
  notify(args, at, vmId, _client, vcpu) {
    args.setUint16(at + NOTIFY.vmid, vmId, true);
    args.setUint16(at + NOTIFY.reserved, 0, true);
    args.setUint32(at + NOTIFY.vcpu, vcpu, true);
  },
  vcpusOfOurs: 0,
  created: () => 0,
  // The VM has one client for user space, and it has no number.
  client: () => 0,
  slotOwner: () => 0,
};

export const VHM: AcrnDialect = {
  name: 'vhm',
  device: '/dev/acrn_vhm',
  sysfsClass: 'vhm',
  requests: VHM_IOCTL,
  ownerWord: VHM_REQUEST.client,
  memseg(args, at, { gpa, size, type, from, rights }) {
    args.setUint32(at + VHM_MEMMAP.type, type, true);
    args.setUint32(at + VHM_MEMMAP.using_vma, type === ACRN_CONST.ACRN_MEMMAP_RAM ? 1 : 0, true);
    setU64(args, at + VHM_MEMMAP.gpa, gpa);
    setU64(args, at + VHM_MEMMAP.hpa, from);
    setU64(args, at + VHM_MEMMAP.len, size);
    args.setUint32(at + VHM_MEMMAP.prot, rights, true);
  },
  notify(args, at, _vmId, client, vcpu) {
    args.setInt32(at + VHM_NOTIFY.client_id, client, true);
    args.setUint32(at + VHM_NOTIFY.vcpu, vcpu, true);
  },
  // ACRN 1.x leaves the vCPUs to who creates them.
  vcpusOfOurs: 1,
  created(call, args, address, vm, requestPage) {
    // Kernels that took the page with CREATE_VM answer that they have it.
    const buffer = call(VHM_IOCTL.SET_IOREQ_BUFFER, requestPage);
    if (buffer < 0 && buffer !== -EEXIST) return buffer;
    for (let vcpu = 0; vcpu < vm.vcpus; vcpu++) {
      args.setUint16(SCRATCH + VCPU.vcpu_id, vcpu, true);
      args.setUint16(SCRATCH + VCPU.pcpu_id, 0, true);
      const result = call(VHM_IOCTL.CREATE_VCPU, address + SCRATCH);
      if (result < 0) return result;
    }
    return 0;
  },
  client: (answer) => answer,
  slotOwner: (client) => client,
};

/** In the order in which a probe looks for them. */
export const DIALECTS: readonly AcrnDialect[] = [HSM, VHM];
