/* msi IMAGE: inject_msi to a guest that is stopped in its fetch, with its local APIC on. */
#include "../subject.h"
#include "agent.h"
#include "domain.h"
#include "subjects.h"

#define MSI_ADDRESS 0xfee00000u
#define MSI_VECTOR 0x41

static uint32_t domid;

static void device(uint64_t address, uint64_t *data, uint32_t size, int is_write) {
  (void)data, (void)size, (void)is_write;
  die("unexpected access at 0x%llx", (unsigned long long)address);
}

static __attribute__((noinline)) void inject_msi(uint32_t address, uint32_t data) {
  must(xendevicemodel_inject_msi(dm, (domid_t)domid, address, data), "xendevicemodel_inject_msi");
}

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) inject_msi(MSI_ADDRESS, MSI_VECTOR);
  return now_ns() - start;
}

sample_fn *msi(char **args) {
  domid = agent_boot(args[0], device);
  return sample;
}
