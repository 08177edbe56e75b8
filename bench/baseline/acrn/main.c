/*
 * acrn hsm|vhm exits mmio-read|mmio-write IMAGE: round trips of a guest's accesses. Each is a request that ATTACH waits for, that is answered from a
 * file of 32-bit registers behind one bounds check, and that NOTIFY finishes.
 * acrn hsm|vhm msi IMAGE: INJECT_MSI to a guest that stands in its fetch.
 */
#include "../subject.h"
#include "agent.h"
#include <string.h>

#define BAR 0xc0000000u
#define BAR_SIZE (2u << 20)
#define REGISTER 0x4f100u
#define MSI_ADDRESS 0xfee00000u
#define MSI_VECTOR 0x41

static struct machine machine;
static uint32_t registers[BAR_SIZE / 4];
static uint32_t opcode, accesses;
static int reads;

static void device(uint64_t address, void *data, uint64_t size, int is_write) {
  uint64_t offset = address - BAR;
  accesses++;
  if (offset > BAR_SIZE - size) return;
  if (is_write) memcpy((uint8_t *)registers + offset, data, size);
  else memcpy(data, (uint8_t *)registers + offset, size);
}

static uint64_t sample_exits(uint32_t count) {
  const uint32_t args[] = {BAR + REGISTER, count, 0x12345678};
  uint32_t before = accesses;
  uint64_t start = now_ns();
  agent_command(&machine, opcode, args, reads ? 2 : 3);
  uint64_t ns = now_ns() - start;
  if (accesses - before != count) die("%u of %u accesses arrived", accesses - before, count);
  return ns;
}

static __attribute__((noinline)) void inject_msi(uint32_t address, uint32_t data) {
  must(machine_inject(&machine, address, data), "INJECT_MSI");
}

static uint64_t sample_msi(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) inject_msi(MSI_ADDRESS, MSI_VECTOR);
  return now_ns() - start;
}

int main(int argc, char **argv) {
  int exits = argc == 5 && strcmp(argv[2], "exits") == 0;
  if (!exits && !(argc == 4 && strcmp(argv[2], "msi") == 0)) die("usage: acrn hsm|vhm exits mmio-read|mmio-write IMAGE | msi IMAGE");
  reads = exits && strcmp(argv[3], "mmio-read") == 0;
  opcode = reads ? AGENT_BURST_READ32 : AGENT_BURST_WRITE32;
  agent_boot(&machine, argv[1], argv[argc - 1], device);
  serve(exits ? sample_exits : sample_msi);
  return 0;
}
