/* What the cases share. */
#define _GNU_SOURCE
#include "cases.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CODE 0x1000
#define MAPPED (512UL << 10)

static void need(long result, const char *what) {
  if (result >= 0) return;
  printf("Bail out! %s: %s\n", what, strerror((int)-result));
  exit(1);
}

void boot(struct machine *machine, const char *abi, const void *code, size_t size) {
  need(machine_open(machine, abi, RAM), "open");
  need(machine_create(machine), "CREATE_VM");
  need(machine_map(machine, 0, machine->ram, MAPPED, RWX), "SET_MEMSEG");
  need(machine_create_client(machine), "CREATE_IOREQ_CLIENT");
  memcpy(machine->ram + CODE, code, size);
  struct acrn_vcpu_regs regs = real_mode(0, CODE);
  need(machine_set_regs(machine, &regs), "SET_VCPU_REGS");
}

struct acrn_io_request *next_request(struct machine *machine) {
  for (;;) {
    need(machine_attach(machine), "ATTACH");
    for (unsigned i = 0; i < machine->vcpus; i++) {
      struct acrn_io_request *slot = &machine->slots[i];
      // The word of the HSM's `kernel_handled` is the VHM's `client`.
      uint32_t owner = machine->hsm ? 0 : (uint32_t)machine->client;
      if (__atomic_load_n(&slot->processed, __ATOMIC_ACQUIRE) == ACRN_IOREQ_STATE_PROCESSING && slot->kernel_handled == owner) return slot;
    }
  }
}

void finish(struct machine *machine, uint64_t value) {
  machine->slots[0].reqs.mmio_request.value = value;
  need(machine_finish(machine, 0), "NOTIFY_REQUEST_FINISH");
}

void machine_end(struct machine *machine) {
  need(machine_destroy(machine), "DESTROY_VM");
  machine_close(machine);
}

const char *control(const char *line) {
  static char answer[8192];
  static int device = -1;
  if (device < 0) device = open("/dev/acrn_standin", O_RDWR | O_CLOEXEC);
  need(device < 0 ? -errno : 0, "/dev/acrn_standin");
  if (write(device, line, strlen(line)) < 0) need(-errno, "the control device");
  ssize_t length = read(device, answer, sizeof answer - 1);
  answer[length < 0 ? 0 : length] = '\0';
  return answer;
}
