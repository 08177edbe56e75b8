/*
 * A VM through either of ACRN's char devices, the way a device model in C would do it: each function is one ioctl and gives what it
 * gives, a failure as -errno.
 */
#ifndef MACHINE_H
#define MACHINE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../standin/abi.h"

struct machine {
  /** UUID or name that the VM is created with; zeros: none. */
  char identity[16];
  bool hsm;
  int fd;
  uint16_t vmid;
  uint16_t vcpus;
  /** What the VHM gave for an id; the HSM has none. */
  long client;
  /** Guest RAM from 0 on, and behind it the page of requests: one shared memory. */
  uint8_t *ram;
  uint64_t ram_size;
  struct acrn_io_request *slots;
};

/** @param abi "hsm" or "vhm". @return the descriptor or -errno */
long machine_open(struct machine *machine, const char *abi, uint64_t ram_size);
/** Closes the descriptor and unmaps the memory. */
void machine_close(struct machine *machine);

long machine_ioctl(const struct machine *machine, unsigned long request, uintptr_t argument);
/** CREATE_VM with our request page. */
long machine_create(struct machine *machine);
long machine_destroy(struct machine *machine);
long machine_start(struct machine *machine);
long machine_pause(struct machine *machine);
long machine_reset(struct machine *machine);
long machine_set_regs(struct machine *machine, struct acrn_vcpu_regs *regs);
/** RAM at `va` for the guest at `gpa`. */
long machine_map(struct machine *machine, uint64_t gpa, const void *va, uint64_t size, uint32_t access);
/** Pages by physical address. */
long machine_map_frames(struct machine *machine, uint64_t gpa, uint64_t physical, uint64_t size, uint32_t access);
/** @param type ACRN_MEMMAP_* */
long machine_unmap(struct machine *machine, uint32_t type, uint64_t gpa, uint64_t size);
long machine_create_client(struct machine *machine);
long machine_destroy_client(struct machine *machine);
/** Blocks. */
long machine_attach(struct machine *machine);
long machine_finish(struct machine *machine, unsigned vcpu);
long machine_clear(struct machine *machine);
long machine_inject(struct machine *machine, uint64_t address, uint64_t data);
long machine_line(struct machine *machine, uint32_t gsi, uint32_t operation);

/** Registers for code at `gpa` below 1 MiB in real mode, with IP 0. */
struct acrn_vcpu_regs real_mode(uint16_t vcpu, uint32_t gpa);
/** Physical address of a page of ours, 0 when it cannot be known. */
uint64_t physical_of(const void *va);
#endif
