/* A vCPU: one thread in KVM_RUN, whose exits become I/O requests. */
#include "standin.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CPUID_ENTRIES 256
#define STACK_SIZE (256 << 10)
/** A string instruction ends with this many exits at the latest; more is no instruction. */
#define UNFINISHED_MAX 1024
#define KICK_EVERY_NS 1000000
#define PM1A_CONTROL 0x404
/** Sleep enable, and sleep type 5 in bits 12:10. */
#define PM1A_SLEEP_5 0x3400

static struct {
  struct kvm_cpuid2 head;
  struct kvm_cpuid_entry2 entries[CPUID_ENTRIES];
} cpuid;
static int run_size;

static void kicked(int signal) { (void)signal; }

/** The signal that takes a vCPU out of KVM_RUN; and what all vCPUs share. */
void vcpu_init_signals(void) {
  struct sigaction action = {.sa_handler = kicked};
  sigaction(SIGUSR1, &action, NULL);
  cpuid.head.nent = CPUID_ENTRIES;
  run_size = ioctl(kvm_system, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < 0 || ioctl(kvm_system, KVM_GET_SUPPORTED_CPUID, &cpuid) < 0) die("/dev/kvm");
}

static void stop(struct vcpu *vcpu, const char *why) {
  struct kvm_regs regs = {0};
  ioctl(vcpu->fd, KVM_GET_REGS, &regs);
  fprintf(stderr, "standin: vm %u vCPU %u stops: %s, exit %u, rip %#llx\n", vcpu->vm->vmid, vcpu->id, why, vcpu->run->exit_reason,
          (unsigned long long)regs.rip);
  vcpu->stopped = why;
  vcpu->started = false;
}

/* Below: with vm->lock, on the vCPU's thread. */

static void mmio_exit(struct vcpu *vcpu) {
  struct kvm_run *run = vcpu->run;
  struct acrn_io_request request = {.type = ACRN_IOREQ_TYPE_MMIO};
  struct acrn_mmio_request *mmio = &request.reqs.mmio_request;
  uint64_t gpa = run->mmio.phys_addr;
  mmio->direction = run->mmio.is_write ? ACRN_IOREQ_DIR_WRITE : ACRN_IOREQ_DIR_READ;
  mmio->address = gpa;
  mmio->size = run->mmio.len;
  if (run->mmio.is_write) memcpy(&mmio->value, run->mmio.data, run->mmio.len);
  // The hypervisor's rule: a write to a page that may be read and executed but not written.
  if (run->mmio.is_write && memory_access(vcpu->vm, gpa) == (ACRN_MEM_ACCESS_READ | ACRN_MEM_ACCESS_EXEC)) request.type = REQ_WP;
  if (ioreq_run(vcpu, &request) && !run->mmio.is_write) memcpy(run->mmio.data, &mmio->value, run->mmio.len);
}

/** One request for each repetition: the hypervisor has no string requests. */
static void port_exit(struct vcpu *vcpu) {
  struct kvm_run *run = vcpu->run;
  bool write = run->io.direction == KVM_EXIT_IO_OUT;
  uint8_t *data = (uint8_t *)run + run->io.data_offset;
  for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
    struct acrn_io_request request = {.type = ACRN_IOREQ_TYPE_PORTIO};
    struct acrn_pio_request *pio = &request.reqs.pio_request;
    pio->direction = write ? ACRN_IOREQ_DIR_WRITE : ACRN_IOREQ_DIR_READ;
    pio->address = run->io.port;
    pio->size = run->io.size;
    if (write) memcpy(&pio->value, data, run->io.size);
    if (!ioreq_run(vcpu, &request)) return;
    if (!write) memcpy(data, &pio->value, run->io.size);
  }
}

/** The hypervisor tells of a triple fault as of a power-off: by a write to the ACPI PM1a control register, of sleep type 5. */
static void triple_fault(struct vcpu *vcpu) {
  struct acrn_io_request request = {.type = ACRN_IOREQ_TYPE_PORTIO};
  struct acrn_pio_request *pio = &request.reqs.pio_request;
  pio->direction = ACRN_IOREQ_DIR_WRITE;
  pio->address = PM1A_CONTROL;
  pio->size = 2;
  pio->value = PM1A_SLEEP_5;
  stop(vcpu, "triple fault");
  ioreq_run(vcpu, &request);
}

static void handle_exit(struct vcpu *vcpu) {
  switch (vcpu->run->exit_reason) {
    case KVM_EXIT_MMIO:
      vcpu->unfinished = true;
      return mmio_exit(vcpu);
    case KVM_EXIT_IO:
      vcpu->unfinished = true;
      return port_exit(vcpu);
    case KVM_EXIT_INTR:
      return;
    case KVM_EXIT_SHUTDOWN:
      return triple_fault(vcpu);
    case KVM_EXIT_FAIL_ENTRY:
      return stop(vcpu, "entry failed");
    case KVM_EXIT_INTERNAL_ERROR:
      return stop(vcpu, "KVM cannot go on");
    default:
      return stop(vcpu, "unexpected exit");
  }
}

static void *run_vcpu(void *argument) {
  struct vcpu *vcpu = argument;
  struct vm *vm = vcpu->vm;
  pthread_mutex_lock(&vm->lock);
  while (!vm->dead) {
    if (!vcpu->started || vm->pauses > 0) {
      vcpu->parked = true;
      pthread_cond_broadcast(&vm->parked);
      pthread_cond_wait(&vcpu->wake, &vm->lock);
      continue;
    }
    vcpu->parked = false;
    vcpu->run->immediate_exit = 0;
    pthread_mutex_unlock(&vm->lock);
    int result = ioctl(vcpu->fd, KVM_RUN, 0), error = errno;
    pthread_mutex_lock(&vm->lock);
    vcpu->unfinished = false;
    if (result == 0) handle_exit(vcpu);
    else if (error != EINTR && error != EAGAIN) stop(vcpu, strerror(error));
  }
  vcpu->parked = true;
  pthread_cond_broadcast(&vm->parked);
  pthread_mutex_unlock(&vm->lock);
  return NULL;
}

/** Takes all vCPUs out of the guest and keeps them out until resume_all: none may look at memory that changes. With vm->lock. */
void park_all(struct vm *vm) {
  vm->pauses++;
  for (;;) {
    bool running = false;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
      struct vcpu *vcpu = vm->vcpus[i];
      if (vcpu->parked) continue;
      running = true;
      vcpu->run->immediate_exit = 1;
      pthread_kill(vcpu->thread, SIGUSR1);
    }
    if (!running) return;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += KICK_EVERY_NS;
    if (until.tv_nsec >= 1000000000) {
      until.tv_nsec -= 1000000000;
      until.tv_sec++;
    }
    pthread_cond_timedwait(&vm->parked, &vm->lock, &until);
  }
}

void resume_all(struct vm *vm) {
  if (--vm->pauses > 0) return;
  for (unsigned i = 0; i < vm->vcpu_count; i++) pthread_cond_signal(&vm->vcpus[i]->wake);
}

long vcpu_add(struct vm *vm) {
  if (vm->vcpu_count == REQUEST_SLOTS) return HV_REFUSED;
  struct vcpu *vcpu = calloc(1, sizeof *vcpu);
  if (vcpu == NULL) return -ENOMEM;
  vcpu->vm = vm;
  vcpu->id = vm->vcpu_count;
  // From the start: whoever parks the VM before the thread runs must not wait for it.
  vcpu->parked = true;
  pthread_cond_init(&vcpu->wake, NULL);
  vcpu->fd = ioctl(vm->kvm_fd, KVM_CREATE_VCPU, (unsigned long)vcpu->id);
  vcpu->run = vcpu->fd < 0 ? MAP_FAILED : mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  bool made = vcpu->run != MAP_FAILED && ioctl(vcpu->fd, KVM_SET_CPUID2, &cpuid) == 0 &&
              ioctl(vcpu->fd, KVM_GET_SREGS, &vcpu->reset_sregs) == 0 && ioctl(vcpu->fd, KVM_GET_REGS, &vcpu->reset_regs) == 0 &&
              ioctl(vcpu->fd, KVM_GET_LAPIC, &vcpu->reset_lapic) == 0 && ioctl(vcpu->fd, KVM_GET_MP_STATE, &vcpu->reset_mp) == 0 &&
              pthread_create(&vcpu->thread, &attributes, run_vcpu, vcpu) == 0;
  pthread_attr_destroy(&attributes);
  if (!made) {
    if (vcpu->run != MAP_FAILED) munmap(vcpu->run, (size_t)run_size);
    if (vcpu->fd >= 0) close(vcpu->fd);
    free(vcpu);
    return -ENOMEM;
  }
  pthread_mutex_lock(&vm->lock);
  vm->vcpus[vm->vcpu_count++] = vcpu;
  pthread_mutex_unlock(&vm->lock);
  return 0;
}

/** Of a dead VM, without its lock. */
void vcpu_end(struct vcpu *vcpu) {
  pthread_join(vcpu->thread, NULL);
  munmap(vcpu->run, (size_t)run_size);
  close(vcpu->fd);
  pthread_cond_destroy(&vcpu->wake);
  free(vcpu);
}

/** KVM ends an access that it told of at the next KVM_RUN, and would do so with the new registers. The vCPU is parked. */
static void finish(struct vcpu *vcpu) {
  vcpu->run->immediate_exit = 1;
  for (int i = 0; vcpu->unfinished && i < UNFINISHED_MAX; i++) vcpu->unfinished = ioctl(vcpu->fd, KVM_RUN, 0) == 0;
  vcpu->unfinished = false;
}

/** As after creation. The vCPU is parked. */
void vcpu_reset(struct vcpu *vcpu) {
  finish(vcpu);
  ioctl(vcpu->fd, KVM_SET_SREGS, &vcpu->reset_sregs);
  ioctl(vcpu->fd, KVM_SET_REGS, &vcpu->reset_regs);
  ioctl(vcpu->fd, KVM_SET_LAPIC, &vcpu->reset_lapic);
  ioctl(vcpu->fd, KVM_SET_MP_STATE, &vcpu->reset_mp);
  vcpu->stopped = NULL;
}

static struct kvm_segment data_segment(uint16_t selector, bool protected) {
  return (struct kvm_segment){
      .selector = selector,
      .base = protected ? 0 : (uint64_t)selector << 4,
      .limit = protected ? 0xffffffff : 0xffff,
      .type = 3,
      .present = 1,
      .s = 1,
      .db = protected,
      .g = protected,
  };
}

#define EFER_LME 0x100
#define EFER_LMA 0x400

/** The hypervisor takes registers of a VM that does not run. */
long vcpu_set_regs(struct vm *vm, const struct acrn_vcpu_regs *given) {
  if (given->vcpu_id >= vm->vcpu_count || vm->state == VM_STARTED) return HV_REFUSED;
  const struct acrn_regs *from = &given->vcpu_regs;
  const struct acrn_gp_regs *gp = &from->gprs;
  struct vcpu *vcpu = vm->vcpus[given->vcpu_id];
  finish(vcpu);
  struct kvm_sregs sregs = vcpu->reset_sregs;
  bool protected = from->cr0 & 1, paging = from->cr0 >> 31 & 1;
  uint32_t ar = from->cs_ar;
  sregs.cs.base = from->cs_base;
  sregs.cs.limit = from->cs_limit;
  sregs.cs.selector = from->cs_sel;
  sregs.cs.type = ar & 15;
  sregs.cs.s = ar >> 4 & 1;
  sregs.cs.dpl = ar >> 5 & 3;
  sregs.cs.present = ar >> 7 & 1;
  sregs.cs.l = ar >> 13 & 1;
  sregs.cs.db = ar >> 14 & 1;
  sregs.cs.g = ar >> 15 & 1;
  sregs.ss = data_segment(from->ss_sel, protected);
  sregs.ds = data_segment(from->ds_sel, protected);
  sregs.es = data_segment(from->es_sel, protected);
  sregs.fs = data_segment(from->fs_sel, protected);
  sregs.gs = data_segment(from->gs_sel, protected);
  sregs.gdt.base = from->gdt.base;
  sregs.gdt.limit = from->gdt.limit;
  sregs.idt.base = from->idt.base;
  sregs.idt.limit = from->idt.limit;
  sregs.cr0 = from->cr0;
  sregs.cr3 = from->cr3;
  sregs.cr4 = from->cr4;
  sregs.efer = from->ia32_efer | (paging && (from->ia32_efer & EFER_LME) ? EFER_LMA : 0);
  struct kvm_regs regs = {
      .rax = gp->rax, .rbx = gp->rbx, .rcx = gp->rcx, .rdx = gp->rdx, .rsi = gp->rsi, .rdi = gp->rdi, .rsp = gp->rsp, .rbp = gp->rbp,
      .r8 = gp->r8,   .r9 = gp->r9,   .r10 = gp->r10, .r11 = gp->r11, .r12 = gp->r12, .r13 = gp->r13, .r14 = gp->r14, .r15 = gp->r15,
      .rip = from->rip,
      // Bit 1 of the flags is always set.
      .rflags = from->rflags | 2,
  };
  struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
  if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0) return HV_REFUSED;
  if (vcpu->id == 0) ioctl(vcpu->fd, KVM_SET_MP_STATE, &runnable);
  return 0;
}
