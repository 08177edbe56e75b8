/* Guest memory. */
#define _GNU_SOURCE
#include "cases.h"
#include "tap.h"
#include <errno.h>
#include <sys/mman.h>

#define MANY 300
#define LARGE (512UL << 20)

void check_memory(const char *abi) {
  struct machine machine;
  machine_open(&machine, abi, (MANY + 8) * PAGE);
  machine_create(&machine);
  uint8_t *ram = machine.ram;
  gives(machine_map(&machine, 0, ram, 4 * PAGE, RWX), 0, "RAM");
  gives(machine_map(&machine, 0, ram, 4 * PAGE, RWX), -EINVAL, "RAM over itself");
  gives(machine_map(&machine, 3 * PAGE, ram, 2 * PAGE, RWX), -EINVAL, "RAM over the end of RAM");
  gives(machine_map(&machine, PAGE, ram, PAGE, ACRN_MEM_ACCESS_READ), -EINVAL, "other rights over RAM");
  gives(machine_map(&machine, 4 * PAGE, ram, 0, RWX), -EINVAL, "no RAM");
  gives(machine_map(&machine, 4 * PAGE + 8, ram, PAGE, RWX), -EINVAL, "RAM that does not begin with a page");
  gives(machine_map(&machine, 4 * PAGE, ram, PAGE + 8, RWX), -EINVAL, "RAM that does not end with a page");
  gives(machine_map(&machine, ~0UL << 12, ram, PAGE, RWX), -EINVAL, "RAM where no address reaches");
  gives(machine_map(&machine, 4 * PAGE, ram, 1UL << 30, RWX), -EFAULT, "more RAM than the caller has");
  gives(machine_map(&machine, 4 * PAGE, NULL, PAGE, RWX), -EFAULT, "RAM that the caller has not");
  gives(machine_unmap(&machine, ACRN_MEMMAP_RAM, 0, PAGE), -EINVAL, "UNSET_MEMSEG of RAM as RAM");
  gives(machine_unmap(&machine, 7, 0, PAGE), -EINVAL, "UNSET_MEMSEG of an unknown type");
  gives(machine_unmap(&machine, ACRN_MEMMAP_MMIO, PAGE, 2 * PAGE), 0, "UNSET_MEMSEG of RAM as MMIO, in the middle");
  gives(machine_map(&machine, PAGE, ram + PAGE, 2 * PAGE, RWX), 0, "RAM into the hole");
  gives(machine_unmap(&machine, ACRN_MEMMAP_MMIO, 0x100000000, PAGE), 0, "UNSET_MEMSEG of nothing");
  uint64_t physical = physical_of(ram + PAGE);
  ram[PAGE] = 1;
  if (check(physical_of(ram + PAGE) != 0, "a page's physical address is known")) {
    physical = physical_of(ram + PAGE);
    gives(machine_map_frames(&machine, PAGE, physical, PAGE, RWX), machine.hsm ? -EINVAL : -EFAULT, "a page by its address, over RAM");
    gives(machine_unmap(&machine, ACRN_MEMMAP_MMIO, PAGE, PAGE), 0, "UNSET_MEMSEG of it");
    gives(machine_map_frames(&machine, PAGE, physical, PAGE, RWX), 0, "a page by its address");
    gives(machine_map_frames(&machine, 64 * PAGE, physical, PAGE, RWX), 0, "the same at a second place");
    gives(machine_map_frames(&machine, 65 * PAGE, physical + 8, PAGE, RWX), machine.hsm ? -EINVAL : -EFAULT, "an address inside a page");
  }
  gives(machine_map_frames(&machine, 65 * PAGE, 0x7fffff000, PAGE, RWX), -EFAULT, "a page that is not the caller's");
  // Two entries are used: the first, and the one in its hole.
  long result = 0;
  unsigned made = 0;
  for (; made < MANY && result == 0; made++) result = machine_map(&machine, (100 + made) * PAGE, ram + (8 + made) * PAGE, PAGE, RWX);
  gives(result, -ENOMEM, "an entry too many");
  check(made == 255, "after 254 more: the table has 256");
  gives(machine_unmap(&machine, ACRN_MEMMAP_MMIO, 100 * PAGE, PAGE), 0, "UNSET_MEMSEG of one");
  gives(machine_map(&machine, 100 * PAGE, ram, PAGE, RWX), -ENOMEM, "its entry is not given back");
  gives(machine_map_frames(&machine, 100 * PAGE, physical, PAGE, RWX), 0, "pages by their address need none");
  machine_end(&machine);
  machine_open(&machine, abi, LARGE);
  machine_create(&machine);
  gives(machine_map(&machine, 0, machine.ram, PAGE, RWX), 0, "a new VM has a new table");
  gives(machine_map(&machine, LARGE, machine.ram, LARGE, RWX), machine.hsm ? -ENOMEM : 0, "512 MiB of RAM in one call");
  gives(machine_map(&machine, 2 * LARGE, machine.ram, LARGE - PAGE, RWX), 0, "a page less");
  machine_end(&machine);
}
