#define _GNU_SOURCE
#include "machine.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PICK(machine, hsm_number, vhm_number) ((machine)->hsm ? (unsigned long)(hsm_number) : (unsigned long)(vhm_number))

long machine_ioctl(const struct machine *machine, unsigned long request, uintptr_t argument) {
  int result = ioctl(machine->fd, request, argument);
  return result < 0 ? -errno : result;
}

long machine_open(struct machine *machine, const char *abi, uint64_t ram_size) {
  *machine = (struct machine){.hsm = strcmp(abi, "hsm") == 0, .ram_size = ram_size};
  machine->fd = open(machine->hsm ? "/dev/acrn_hsm" : "/dev/acrn_vhm", O_RDWR | O_CLOEXEC);
  if (machine->fd < 0) return -errno;
  int memory = memfd_create("guest", MFD_CLOEXEC);
  if (memory < 0 || ftruncate(memory, (off_t)(ram_size + PAGE)) < 0) return -errno;
  machine->ram = mmap(NULL, ram_size + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  close(memory);
  if (machine->ram == MAP_FAILED) return -errno;
  machine->slots = (struct acrn_io_request *)(machine->ram + ram_size);
  return machine->fd;
}

void machine_close(struct machine *machine) {
  if (machine->fd >= 0) close(machine->fd);
  munmap(machine->ram, machine->ram_size + PAGE);
}

long machine_create(struct machine *machine) {
  // The VHM's structure has the same fields in the same places.
  struct acrn_vm_creation creation = {.ioreq_buf = (uintptr_t)machine->slots};
  memcpy(&creation.uuid, machine->identity, sizeof machine->identity);
  long result = machine_ioctl(machine, PICK(machine, ACRN_IOCTL_CREATE_VM, IC_CREATE_VM), (uintptr_t)&creation);
  machine->vmid = creation.vmid;
  machine->vcpus = creation.vcpu_num;
  return result;
}

long machine_destroy(struct machine *machine) { return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_DESTROY_VM, IC_DESTROY_VM), 0); }

long machine_start(struct machine *machine) { return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_START_VM, IC_START_VM), 0); }

long machine_pause(struct machine *machine) { return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_PAUSE_VM, IC_PAUSE_VM), 0); }

long machine_reset(struct machine *machine) { return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_RESET_VM, IC_RESET_VM), 0); }

long machine_set_regs(struct machine *machine, struct acrn_vcpu_regs *regs) {
  return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_SET_VCPU_REGS, IC_SET_VCPU_REGS), (uintptr_t)regs);
}

static long memseg(struct machine *machine, bool set, uint32_t type, uint64_t gpa, uint64_t from, uint64_t size, uint32_t access) {
  struct acrn_vm_memmap map = {.type = type, .attr = access, .user_vm_pa = gpa, .vma_base = from, .len = size};
  struct vhm_memmap old = {.type = type, .using_vma = type == ACRN_MEMMAP_RAM, .gpa = gpa, .hpa_or_vma = from, .len = size, .prot = access};
  unsigned long request = set ? PICK(machine, ACRN_IOCTL_SET_MEMSEG, IC_SET_MEMSEG) : PICK(machine, ACRN_IOCTL_UNSET_MEMSEG, IC_UNSET_MEMSEG);
  return machine_ioctl(machine, request, machine->hsm ? (uintptr_t)&map : (uintptr_t)&old);
}

long machine_map(struct machine *machine, uint64_t gpa, const void *va, uint64_t size, uint32_t access) {
  return memseg(machine, true, ACRN_MEMMAP_RAM, gpa, (uintptr_t)va, size, access);
}

long machine_map_frames(struct machine *machine, uint64_t gpa, uint64_t physical, uint64_t size, uint32_t access) {
  return memseg(machine, true, ACRN_MEMMAP_MMIO, gpa, physical, size, access);
}

long machine_unmap(struct machine *machine, uint32_t type, uint64_t gpa, uint64_t size) { return memseg(machine, false, type, gpa, 0, size, 0); }

long machine_create_client(struct machine *machine) {
  machine->client = machine_ioctl(machine, PICK(machine, ACRN_IOCTL_CREATE_IOREQ_CLIENT, IC_CREATE_IOREQ_CLIENT), 0);
  return machine->client;
}

long machine_destroy_client(struct machine *machine) {
  return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_DESTROY_IOREQ_CLIENT, IC_DESTROY_IOREQ_CLIENT), (uintptr_t)machine->client);
}

long machine_attach(struct machine *machine) {
  return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_ATTACH_IOREQ_CLIENT, IC_ATTACH_IOREQ_CLIENT), (uintptr_t)machine->client);
}

long machine_finish(struct machine *machine, unsigned vcpu) {
  struct acrn_ioreq_notify notify = {.vmid = machine->vmid, .vcpu = vcpu};
  struct vhm_notify old = {.client = (int32_t)machine->client, .vcpu = vcpu};
  return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, IC_NOTIFY_REQUEST_FINISH),
                       machine->hsm ? (uintptr_t)&notify : (uintptr_t)&old);
}

long machine_clear(struct machine *machine) { return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_CLEAR_VM_IOREQ, IC_CLEAR_VM_IOREQ), 0); }

long machine_inject(struct machine *machine, uint64_t address, uint64_t data) {
  struct acrn_msi_entry msi = {address, data};
  return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_INJECT_MSI, IC_INJECT_MSI), (uintptr_t)&msi);
}

long machine_line(struct machine *machine, uint32_t gsi, uint32_t operation) {
  return machine_ioctl(machine, PICK(machine, ACRN_IOCTL_SET_IRQLINE, IC_SET_IRQLINE), (uintptr_t)operation << 32 | gsi);
}

struct acrn_vcpu_regs real_mode(uint16_t vcpu, uint32_t gpa) {
  struct acrn_vcpu_regs regs = {.vcpu_id = vcpu};
  struct acrn_regs *of = &regs.vcpu_regs;
  of->cs_base = gpa;
  of->cs_sel = (uint16_t)(gpa >> 4);
  of->cs_limit = 0xffff;
  // Present, code, readable, accessed.
  of->cs_ar = 0x9b;
  // ET; without it KVM refuses nothing, but hardware has it set.
  of->cr0 = 0x10;
  of->rflags = 2;
  of->idt.limit = 0x3ff;
  return regs;
}

uint64_t physical_of(const void *va) {
  uint64_t entry = 0;
  int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap < 0) return 0;
  ssize_t got = pread(pagemap, &entry, sizeof entry, (off_t)((uintptr_t)va / PAGE * sizeof entry));
  close(pagemap);
  return got == sizeof entry && entry >> 63 ? (entry & ((1ULL << 55) - 1)) * PAGE : 0;
}
