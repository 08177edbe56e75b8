/* Requests of real instructions: ports, memory, configuration space, write-protected pages, several vCPUs. */
#define _GNU_SOURCE
#include "cases.h"
#include "tap.h"
#include <errno.h>
#include <string.h>

/* Real mode, at 0x1000; ES points at 0xA0000, where there is no memory. */
#define ES_TO_MMIO 0xb8, 0x00, 0xa0, 0x8e, 0xc0
#define HALT 0xf4, 0xeb, 0xfd

static const uint8_t ACCESSES[] = {
    ES_TO_MMIO,
    0x26, 0x66, 0xc7, 0x06, 0x10, 0x00, 0x78, 0x56, 0x34, 0x12,  // mov dword es:[0x10], 0x12345678
    0x26, 0x66, 0xa1, 0x14, 0x00,                                // mov eax, es:[0x14]
    0x26, 0x66, 0xa3, 0x18, 0x00,                                // mov es:[0x18], eax
    0x26, 0xa0, 0x1c, 0x00,                                      // mov al, es:[0x1c]
    0xe6, 0x80,                                                  // out 0x80, al
    0xe5, 0x62,                                                  // in ax, 0x62
    0xba, 0xf8, 0x0c,                                            // mov dx, 0xcf8
    0x66, 0xb8, 0x04, 0x10, 0x00, 0x80,                          // mov eax, 0x80001004
    0x66, 0xef,                                                  // out dx, eax
    0xba, 0xfe, 0x0c,                                            // mov dx, 0xcfe
    0xed,                                                        // in ax, dx
    0x26, 0xa3, 0x20, 0x00,                                      // mov es:[0x20], ax
    HALT,
};

static const struct {
  const char *what;
  uint32_t type, direction;
  uint64_t address, size, value, answer;
} EXPECTED[] = {
    {"a store of 4 bytes", ACRN_IOREQ_TYPE_MMIO, ACRN_IOREQ_DIR_WRITE, 0xa0010, 4, 0x12345678, 0},
    {"a load of 4 bytes", ACRN_IOREQ_TYPE_MMIO, ACRN_IOREQ_DIR_READ, 0xa0014, 4, 0, 0xdeadbeef},
    {"its value, stored", ACRN_IOREQ_TYPE_MMIO, ACRN_IOREQ_DIR_WRITE, 0xa0018, 4, 0xdeadbeef, 0},
    {"a load of 1 byte", ACRN_IOREQ_TYPE_MMIO, ACRN_IOREQ_DIR_READ, 0xa001c, 1, 0, 0xffffffffffffff5a},
    {"a byte to a port", ACRN_IOREQ_TYPE_PORTIO, ACRN_IOREQ_DIR_WRITE, 0x80, 1, 0x5a, 0},
    {"two bytes from a port", ACRN_IOREQ_TYPE_PORTIO, ACRN_IOREQ_DIR_READ, 0x62, 2, 0, 0x1234},
    {"a load from configuration space", ACRN_IOREQ_TYPE_PCICFG, ACRN_IOREQ_DIR_READ, 0xcfe, 2, 0, 0xbeef},
    {"its value, stored", ACRN_IOREQ_TYPE_MMIO, ACRN_IOREQ_DIR_WRITE, 0xa0020, 2, 0xbeef, 0},
};

static void check_slot(const struct acrn_io_request *slot, unsigned i) {
  const struct acrn_mmio_request *io = &slot->reqs.mmio_request;
  bool write = EXPECTED[i].direction == ACRN_IOREQ_DIR_WRITE;
  bool same = slot->type == EXPECTED[i].type && io->direction == EXPECTED[i].direction && io->address == EXPECTED[i].address &&
              io->size == EXPECTED[i].size && (!write || io->value == EXPECTED[i].value);
  if (!check(same, "request: %s", EXPECTED[i].what))
    check(false, "type %u direction %u address %#lx size %lu value %#lx", slot->type, io->direction, (unsigned long)io->address,
          (unsigned long)io->size, (unsigned long)io->value);
}

void check_requests(const char *abi) {
  struct machine machine;
  boot(&machine, abi, ACCESSES, sizeof ACCESSES);
  bool all_free = true;
  for (int i = 0; i < REQUEST_SLOTS; i++) all_free = all_free && machine.slots[i].processed == ACRN_IOREQ_STATE_FREE;
  check(all_free, "all slots are FREE at first");
  machine_start(&machine);
  for (unsigned i = 0; i < sizeof EXPECTED / sizeof *EXPECTED; i++) {
    struct acrn_io_request *slot = next_request(&machine);
    check_slot(slot, i);
    if (EXPECTED[i].type == ACRN_IOREQ_TYPE_PCICFG) {
      const struct acrn_pci_request *pci = &slot->reqs.pci_request;
      check(pci->bus == 0 && pci->dev == 2 && pci->func == 0 && pci->reg == 6, "bus 0, device 2, function 0, register 6");
    }
    finish(&machine, EXPECTED[i].answer);
  }
  machine_end(&machine);
}

/* DS points at 0x20000: a page of RAM that may be read and executed. */
static const uint8_t TRACKED[] = {
    ES_TO_MMIO,
    0xb8, 0x00, 0x20, 0x8e, 0xd8,                          // mov ax, 0x2000; mov ds, ax
    0x66, 0xc7, 0x06, 0x10, 0x00, 0xcd, 0xab, 0xcd, 0xab,  // mov dword [0x10], 0xabcdabcd
    0x66, 0xa1, 0x10, 0x00,                                // mov eax, [0x10]
    0x26, 0x66, 0xa3, 0x00, 0x00,                          // mov es:[0], eax
    HALT,
};

#define TRACKED_GPA 0x20000UL

/** @param frames by physical address, not by a new entry of the table */
static void track(const char *abi, bool frames, uint32_t access, uint32_t type) {
  struct machine machine;
  boot(&machine, abi, TRACKED, sizeof TRACKED);
  uint8_t *page = machine.ram + TRACKED_GPA;
  *(uint32_t *)(page + 0x10) = 0x11111111;
  gives(machine_unmap(&machine, ACRN_MEMMAP_MMIO, TRACKED_GPA, PAGE), 0, "a page taken out");
  long mapped = frames ? machine_map_frames(&machine, TRACKED_GPA, physical_of(page), PAGE, access)
                       : machine_map(&machine, TRACKED_GPA, page, PAGE, access);
  gives(mapped, 0, "and given back without the right to write, %s", frames ? "by its address" : "as RAM");
  machine_start(&machine);
  const struct acrn_io_request *slot = next_request(&machine);
  const struct acrn_mmio_request *io = &slot->reqs.mmio_request;
  check(slot->type == type && io->direction == ACRN_IOREQ_DIR_WRITE && io->address == TRACKED_GPA + 0x10 && io->size == 4 &&
            io->value == 0xabcdabcd,
        "its write is a request of type %u with the value", type);
  check(*(uint32_t *)(page + 0x10) == 0x11111111, "memory is as it was");
  *(uint32_t *)(page + 0x10) = 0x22222222;
  finish(&machine, 0);
  slot = next_request(&machine);
  check(slot->reqs.mmio_request.address == 0xa0000 && slot->reqs.mmio_request.value == 0x22222222, "reads come from memory, without a request");
  finish(&machine, 0);
  machine_end(&machine);
}

void check_tracking(const char *abi) {
  track(abi, false, ACRN_MEM_ACCESS_READ | ACRN_MEM_ACCESS_EXEC, REQ_WP);
  track(abi, true, ACRN_MEM_ACCESS_READ | ACRN_MEM_ACCESS_EXEC, REQ_WP);
  track(abi, true, ACRN_MEM_ACCESS_READ, ACRN_IOREQ_TYPE_MMIO);
}
