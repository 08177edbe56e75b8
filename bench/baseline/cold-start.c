/*
 * cold-start process IMAGE START_NS: prints the time from START_NS, which the parent read from CLOCK_MONOTONIC before it
 * started this program, to the guest's first exit.
 * cold-start machine IMAGE: the part of it from creating a VM to its first exit, for each count on stdin.
 */
#include "agent-protocol.h"
#include "subject.h"
#include "vm.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static uint8_t image[PAGE];
static size_t length;

static void to_first_exit(struct vm *vm) {
  vm_create(vm);
  vm_boot(vm, AGENT_GPA, image, length);
  must(ioctl(vm->vcpu, KVM_RUN, 0), "KVM_RUN");
  if (vm->run->exit_reason != KVM_EXIT_IO) die("the first exit is %u", vm->run->exit_reason);
}

static uint64_t sample(uint32_t count) {
  uint64_t ns = 0;
  for (uint32_t i = 0; i < count; i++) {
    struct vm vm;
    uint64_t start = now_ns();
    to_first_exit(&vm);
    ns += now_ns() - start;
    vm_destroy(&vm);
  }
  return ns;
}

int main(int argc, char **argv) {
  if (argc < 3) die("usage: cold-start process|machine IMAGE [START_NS]");
  length = read_image(argv[2], image);
  if (strcmp(argv[1], "process") == 0 && argc == 4) {
    struct vm vm;
    to_first_exit(&vm);
    report(now_ns() - strtoull(argv[3], NULL, 10));
  } else serve(sample);
  return 0;
}
