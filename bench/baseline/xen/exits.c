/*
 * exits mmio-read|mmio-write IMAGE: round trips of a guest's accesses. The guest executes `count` loads or stores with a loop
 * instruction between; each is a request that is answered from a file of 32-bit registers behind one bounds check.
 */
#include "../subject.h"
#include "agent.h"
#include "subjects.h"
#include <string.h>

#define BAR 0xc0000000u
#define BAR_SIZE (2u << 20)
#define REGISTER 0x4f100u

static uint32_t registers[BAR_SIZE / 4];
static uint32_t opcode, accesses;
static int reads;

static void device(uint64_t address, uint64_t *data, uint32_t size, int is_write) {
  uint64_t offset = address - BAR;
  accesses++;
  if (offset > BAR_SIZE - size) return;
  if (is_write) memcpy((uint8_t *)registers + offset, data, size);
  else memcpy(data, (uint8_t *)registers + offset, size);
}

static uint64_t sample(uint32_t count) {
  const uint32_t args[] = {BAR + REGISTER, count, 0x12345678};
  uint32_t before = accesses;
  uint64_t start = now_ns();
  agent_command(opcode, args, reads ? 2 : 3);
  uint64_t ns = now_ns() - start;
  if (accesses - before != count) die("%u of %u accesses arrived", accesses - before, count);
  return ns;
}

sample_fn *exits(char **args) {
  reads = strcmp(args[0], "mmio-read") == 0;
  opcode = reads ? AGENT_BURST_READ32 : AGENT_BURST_WRITE32;
  agent_boot(args[1], device);
  return sample;
}
