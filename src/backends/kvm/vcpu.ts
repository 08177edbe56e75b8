/**
 * The one vCPU of a machine: its descriptor, its shared `struct kvm_run`, and the state that KVM gave it at creation, from
 * which every boot starts.
 */
import { MptError } from '../../core/errors.js';
import { OwnedFd } from '../../native/fd.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { Syscalls } from '../../native/syscalls.js';
import { KICK_SIGNAL, type ThreadKick } from '../../native/thread.js';
import { KVM_IOCTL, KVM_STRUCT } from './abi.js';

type Ioctl = keyof typeof KVM_IOCTL;

const CPUID_ENTRIES = 256;
const ENOMEM = 12;
const EINTR = 4;
/** A string instruction may need several exits before it lets go; more than this is no instruction. */
const MAX_PENDING_EXITS = 1024;

/** State that a boot restores: how to read it, how to write it, how long it is. */
const RESET_STATE = [
  ['KVM_GET_SREGS', 'KVM_SET_SREGS', KVM_STRUCT.kvm_sregs.size],
  ['KVM_GET_LAPIC', 'KVM_SET_LAPIC', KVM_STRUCT.kvm_lapic_state.size],
  ['KVM_GET_VCPU_EVENTS', 'KVM_SET_VCPU_EVENTS', KVM_STRUCT.kvm_vcpu_events.size],
  ['KVM_GET_MP_STATE', 'KVM_SET_MP_STATE', KVM_STRUCT.kvm_mp_state.size],
] as const satisfies readonly (readonly [Ioctl, Ioctl, number])[];

/** Throws the MptError of a failed call. */
export function checkCall(result: number, what: string): number {
  if (result < 0) throw new MptError(-result === ENOMEM ? 'NO_MEMORY' : 'HYPERVISOR', `${what} failed`, { errno: -result });
  return result;
}

export class KvmVcpu {
  readonly #sys: Syscalls;
  readonly #fd: OwnedFd;
  readonly #run: OwnedMapping;
  readonly #reset: readonly Uint8Array[];

  /** @throws MptError NO_MEMORY, HYPERVISOR; nothing stays open then */
  constructor(sys: Syscalls, kvmFd: number, vmFd: number, kick: ThreadKick) {
    this.#sys = sys;
    this.#fd = new OwnedFd(sys, sys.ioctl(vmFd, KVM_IOCTL.KVM_CREATE_VCPU, 0), 'KVM_CREATE_VCPU');
    let run: OwnedMapping | undefined;
    try {
      const size = checkCall(sys.ioctl(kvmFd, KVM_IOCTL.KVM_GET_VCPU_MMAP_SIZE, 0), 'KVM_GET_VCPU_MMAP_SIZE');
      run = OwnedMapping.file(sys, this.#fd.fd, size, 'the vCPU');
      this.#run = run;
      this.#setCpuid(kvmFd);
      this.#setSignalMask(kick);
      this.#reset = RESET_STATE.map(([get, , length]) => {
        const state = new Uint8Array(length);
        this.#call(get, state);
        return state;
      });
    } catch (error) {
      run?.close();
      this.#fd.close();
      throw error;
    }
  }

  /** @throws MptError CLOSED */
  get fd(): number {
    return this.#fd.fd;
  }

  /** `struct kvm_run` and the I/O page behind it. */
  get run(): ArrayBuffer {
    return this.#run.buffer;
  }

  /** Ready to execute at `gpa` in real mode: CS = gpa >> 4, IP = 0, everything else as after reset. */
  reset(gpa: number): void {
    this.#finishPendingAccess();
    RESET_STATE.forEach(([, set], i) => {
      const state = (this.#reset[i] as Uint8Array).slice();
      if (set === 'KVM_SET_SREGS') pointCodeSegment(state, gpa);
      this.#call(set, state);
    });
    const { kvm_regs: REGS } = KVM_STRUCT;
    const regs = new DataView(new ArrayBuffer(REGS.size));
    regs.setUint32(REGS.rip, 0, true);
    // Bit 1 of the flags is always set.
    regs.setUint32(REGS.rflags, 2, true);
    this.#call('KVM_SET_REGS', new Uint8Array(regs.buffer));
  }

  close(): void {
    this.#run.close();
    this.#fd.close();
  }

  /**
   * KVM completes an access that it reported at the next KVM_RUN, and would apply it to the new registers. With
   * `immediate_exit` it does only that.
   */
  #finishPendingAccess(): void {
    const run = new DataView(this.run);
    const { immediate_exit: IMMEDIATE_EXIT } = KVM_STRUCT.kvm_run;
    run.setUint8(IMMEDIATE_EXIT, 1);
    try {
      for (let i = 0; i < MAX_PENDING_EXITS; i++) {
        const result = this.#sys.ioctl(this.fd, KVM_IOCTL.KVM_RUN, 0);
        if (result === -EINTR) return;
        checkCall(result, 'KVM_RUN');
      }
    } finally {
      run.setUint8(IMMEDIATE_EXIT, 0);
    }
    throw new MptError('BUSY', 'the vCPU does not finish its last access', { hint: 'create a new machine' });
  }

  /** The guest sees the host's CPU features; without them KVM refuses long mode, MMX and SSE. */
  #setCpuid(kvmFd: number): void {
    const { kvm_cpuid2: CPUID, kvm_cpuid_entry2: ENTRY } = KVM_STRUCT;
    const cpuid = new DataView(new ArrayBuffer(CPUID.size + CPUID_ENTRIES * ENTRY.size));
    cpuid.setUint32(CPUID.nent, CPUID_ENTRIES, true);
    const bytes = new Uint8Array(cpuid.buffer);
    checkCall(this.#sys.ioctlBuffer(kvmFd, KVM_IOCTL.KVM_GET_SUPPORTED_CPUID, bytes), 'KVM_GET_SUPPORTED_CPUID');
    this.#call('KVM_SET_CPUID2', bytes);
  }

  /** Unblocks the kick signal inside KVM_RUN only. The kernel's sigset_t is 8 bytes. */
  #setSignalMask(kick: ThreadKick): void {
    const { kvm_signal_mask: MASK } = KVM_STRUCT;
    const mask = new Uint8Array(MASK.size + 8);
    mask[MASK.len] = 8;
    mask.set(kick.outerMask.subarray(0, 8), MASK.sigset);
    const at = MASK.sigset + ((KICK_SIGNAL - 1) >> 3);
    mask[at] = (mask[at] as number) & ~(1 << ((KICK_SIGNAL - 1) & 7));
    this.#call('KVM_SET_SIGNAL_MASK', mask);
  }

  #call(name: Ioctl, bytes: Uint8Array): void {
    checkCall(this.#sys.ioctlBuffer(this.fd, KVM_IOCTL[name], bytes), name);
  }
}

function pointCodeSegment(sregs: Uint8Array, gpa: number): void {
  const { kvm_sregs: SREGS, kvm_segment: SEGMENT } = KVM_STRUCT;
  const view = new DataView(sregs.buffer);
  view.setUint32(SREGS.cs + SEGMENT.base, gpa, true);
  view.setUint32(SREGS.cs + SEGMENT.base + 4, 0, true);
  view.setUint16(SREGS.cs + SEGMENT.selector, gpa >> 4, true);
}
