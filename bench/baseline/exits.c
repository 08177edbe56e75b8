/*
 * exits mmio-read|mmio-write|page-track IMAGE: round trips of a guest's accesses. The guest executes `count` loads or
 * stores with a loop instruction between; each exits, is answered and resumed.
 *
 * The device is what the fastest device model has to be: a file of 32-bit registers behind one bounds check. A store to the
 * write-protected page is carried out in RAM and told to a handler, as a tracker of page tables needs it.
 */
#include "agent.h"
#include "subject.h"
#include <string.h>

#define BAR 0xc0000000u
#define BAR_SIZE (2u << 20)
#define REGISTER 0x4f100u
#define TRACKED 0x20000u

static struct vm vm;
static uint32_t registers[BAR_SIZE / 4];
static volatile uint32_t reported;
static uint32_t opcode, address;
static int reads;

static __attribute__((noinline)) void page_written(uint64_t gpa, const void *data, uint32_t length) {
  (void)gpa;
  (void)data;
  (void)length;
  reported++;
}

static void device(uint64_t gpa, void *data, uint32_t length, int is_write) {
  uint64_t offset = gpa - BAR;
  if (offset <= BAR_SIZE - length) {
    if (is_write) memcpy((uint8_t *)registers + offset, data, length);
    else memcpy(data, (uint8_t *)registers + offset, length);
  } else if (is_write && gpa <= RAM_SIZE - length) {
    memcpy(vm.ram + gpa, data, length);
    if (gpa / PAGE == TRACKED / PAGE) page_written(gpa, data, length);
  } else if (!is_write) memset(data, 0xff, length);
}

static uint64_t sample(uint32_t count) {
  const uint32_t args[] = {address, count, 0x12345678};
  uint32_t before = reported;
  uint64_t start = now_ns();
  agent_command(&vm, opcode, args, reads ? 2 : 3, device);
  uint64_t ns = now_ns() - start;
  if (address == TRACKED && reported - before != count) die("%u of %u stores were reported", reported - before, count);
  return ns;
}

int main(int argc, char **argv) {
  if (argc != 3) die("usage: exits mmio-read|mmio-write|page-track IMAGE");
  reads = strcmp(argv[1], "mmio-read") == 0;
  opcode = reads ? AGENT_BURST_READ32 : AGENT_BURST_WRITE32;
  address = BAR + REGISTER;
  vm_create(&vm);
  if (strcmp(argv[1], "page-track") == 0) {
    address = TRACKED;
    vm_slot(&vm, 0, 0, 0, 0, NULL);
    vm_slot(&vm, 0, 0, 0, TRACKED, vm.ram);
    vm_slot(&vm, 1, KVM_MEM_READONLY, TRACKED, PAGE, vm.ram + TRACKED);
    vm_slot(&vm, 2, 0, TRACKED + PAGE, RAM_SIZE - TRACKED - PAGE, vm.ram + TRACKED + PAGE);
  }
  agent_boot(&vm, argv[2], device);
  serve(sample);
  return 0;
}
