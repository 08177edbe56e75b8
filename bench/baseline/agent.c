#include "agent.h"
#include "subject.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

static uint8_t *port_data(struct vm *vm) { return (uint8_t *)vm->run + vm->run->io.data_offset; }

/* Runs the guest until it fetches and `args` are used up; that fetch stays open. */
static void pump(struct vm *vm, const uint32_t *args, uint32_t count, access_fn *device) {
  struct kvm_run *run = vm->run;
  for (;;) {
    if (ioctl(vm->vcpu, KVM_RUN, 0) < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      must(-1, "KVM_RUN");
    }
    switch (run->exit_reason) {
    case KVM_EXIT_MMIO:
      device(run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
      break;
    case KVM_EXIT_IO:
      if (run->io.port != AGENT_PORT) die("the guest took an exception or used port 0x%x", run->io.port);
      if (run->io.direction == KVM_EXIT_IO_OUT) break;
      if (count == 0) return;
      memcpy(port_data(vm), args, 4);
      args++;
      count--;
      break;
    default:
      die("the vCPU cannot go on: exit %u", run->exit_reason);
    }
  }
}

void agent_boot(struct vm *vm, const char *image_path, access_fn *device) {
  uint8_t image[PAGE];
  vm_boot(vm, AGENT_GPA, image, read_image(image_path, image));
  pump(vm, NULL, 0, device);
}

void agent_command(struct vm *vm, uint32_t opcode, const uint32_t *args, uint32_t count, access_fn *device) {
  memcpy(port_data(vm), &opcode, 4);
  pump(vm, args, count, device);
}
