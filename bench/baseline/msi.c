/* msi IMAGE: KVM_SIGNAL_MSI to a guest that is stopped in its fetch, with its local APIC on. */
#include "agent.h"
#include "subject.h"
#include <sys/ioctl.h>

#define MSI_ADDRESS 0xfee00000u
#define MSI_VECTOR 0x41

static struct vm vm;

static void device(uint64_t gpa, void *data, uint32_t length, int is_write) {
  (void)data;
  (void)length;
  (void)is_write;
  die("unexpected access at 0x%llx", (unsigned long long)gpa);
}

static __attribute__((noinline)) void inject_msi(uint32_t address, uint32_t data) {
  struct kvm_msi msi = {.address_lo = address, .data = data};
  must(ioctl(vm.fd, KVM_SIGNAL_MSI, &msi), "KVM_SIGNAL_MSI");
}

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) inject_msi(MSI_ADDRESS, MSI_VECTOR);
  return now_ns() - start;
}

int main(int argc, char **argv) {
  if (argc != 2) die("usage: msi IMAGE");
  vm_create(&vm);
  agent_boot(&vm, argv[1], device);
  serve(sample);
  return 0;
}
