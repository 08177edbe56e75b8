#include "agent.h"
#include "../subject.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RAM_SIZE (16u << 20)

static device_fn *device;

long must(long result, const char *what) {
  if (result < 0) die("%s failed: %s", what, strerror((int)-result));
  return result;
}

/* The vCPU's request: often it is there already, else ATTACH blocks until it is. */
static struct acrn_io_request *wait(struct machine *machine) {
  struct acrn_io_request *slot = &machine->slots[0];
  while (__atomic_load_n(&slot->processed, __ATOMIC_ACQUIRE) != ACRN_IOREQ_STATE_PROCESSING)
    must(machine_attach(machine), "ATTACH_IOREQ_CLIENT");
  return slot;
}

static void finish(struct machine *machine) { must(machine_finish(machine, 0), "NOTIFY_REQUEST_FINISH"); }

/* Runs the guest until it fetches and `args` are used up; that fetch stays open. */
static void pump(struct machine *machine, const uint32_t *args, uint32_t count) {
  for (;;) {
    struct acrn_io_request *slot = wait(machine);
    struct acrn_mmio_request *io = &slot->reqs.mmio_request;
    int is_write = io->direction == ACRN_IOREQ_DIR_WRITE;
    if (slot->type == ACRN_IOREQ_TYPE_MMIO) device(io->address, &io->value, io->size, is_write);
    else if (io->address != AGENT_PORT) die("the guest took an exception or used port 0x%llx", (unsigned long long)io->address);
    else if (!is_write) {
      if (count == 0) return;
      slot->reqs.pio_request.value = *args++;
      count--;
    }
    finish(machine);
  }
}

void agent_boot(struct machine *machine, const char *abi, const char *image_path, device_fn *answers) {
  device = answers;
  int fd = open(image_path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) die("%s: %s", image_path, strerror(errno));
  must(machine_open(machine, abi, RAM_SIZE), "opening ACRN's device");
  must(machine_create(machine), "CREATE_VM");
  must(machine_map(machine, 0, machine->ram, RAM_SIZE, ACRN_MEM_ACCESS_RWX), "SET_MEMSEG");
  must(machine_create_client(machine), "CREATE_IOREQ_CLIENT");
  if (read(fd, machine->ram + AGENT_GPA, PAGE) < 0) die("%s: %s", image_path, strerror(errno));
  close(fd);
  struct acrn_vcpu_regs regs = real_mode(0, AGENT_GPA);
  must(machine_set_regs(machine, &regs), "SET_VCPU_REGS");
  must(machine_start(machine), "START_VM");
  pump(machine, NULL, 0);
}

void agent_command(struct machine *machine, uint32_t opcode, const uint32_t *args, uint32_t count) {
  machine->slots[0].reqs.pio_request.value = opcode;
  finish(machine);
  pump(machine, args, count);
}
