/*
 * dma: the machine address of a guest's page, pinned and let go again: an entry of the domain's grant table is written,
 * mapped for devices, unmapped and cleared.
 */
#include "../subject.h"
#include "domain.h"
#include "subjects.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xencall.h>

#define FRAME 0x100u
#define FRAMES 4u
/* The table's last frame. */
#define TABLE_FRAME 63u
#define ENTRIES (PAGE / sizeof(grant_entry_v1_t))
#define REF (TABLE_FRAME * ENTRIES + ENTRIES - 1)

static uint32_t domid;
static xencall_handle *calls;
static grant_entry_v1_t *table;
static union {
  gnttab_map_grant_ref_t map;
  gnttab_unmap_grant_ref_t unmap;
} *op;

static uint64_t map(uint32_t gfn, grant_handle_t *handle) {
  grant_entry_v1_t *entry = &table[REF % ENTRIES];
  if (entry->flags != 0) die("the guest uses the entry");
  entry->domid = 0;
  entry->frame = gfn;
  __atomic_store_n(&entry->flags, GTF_permit_access, __ATOMIC_SEQ_CST);
  op->map = (gnttab_map_grant_ref_t){.flags = GNTMAP_device_map, .ref = REF, .dom = (domid_t)domid, .status = -1};
  must(xencall3(calls, __HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, (uintptr_t)op, 1), "map_grant_ref");
  if (op->map.status != GNTST_okay) die("map_grant_ref failed: status %d", op->map.status);
  *handle = op->map.handle;
  return op->map.dev_bus_addr;
}

static void unmap(uint64_t bus_address, grant_handle_t handle) {
  op->unmap = (gnttab_unmap_grant_ref_t){.dev_bus_addr = bus_address, .handle = handle, .status = -1};
  must(xencall3(calls, __HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, (uintptr_t)op, 1), "unmap_grant_ref");
  if (op->unmap.status != GNTST_okay) die("unmap_grant_ref failed: status %d", op->unmap.status);
  __atomic_store_n(&table[REF % ENTRIES].flags, 0, __ATOMIC_SEQ_CST);
}

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    grant_handle_t handle;
    uint64_t bus_address = map(FRAME + (i & (FRAMES - 1)), &handle);
    unmap(bus_address, handle);
  }
  return now_ns() - start;
}

sample_fn *dma(char **args) {
  (void)args;
  void *page = NULL;
  calls = xencall_open(NULL, 0);
  op = calls == NULL ? NULL : xencall_alloc_buffer_pages(calls, 1);
  if (op == NULL) die("opening libxencall failed: %s", strerror(errno));
  domid = domain_create();
  if (xenforeignmemory_map_resource(fm, (domid_t)domid, XENMEM_resource_grant_table, 0, TABLE_FRAME, 1, &page, PROT_READ | PROT_WRITE, 0) ==
      NULL)
    die("mapping the grant table failed: %s", strerror(errno));
  table = page;
  return sample;
}
