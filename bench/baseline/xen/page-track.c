/* page-track: every frame of the domain becomes write-protected and plain RAM again, one call a frame. */
#include "../subject.h"
#include "domain.h"
#include "requests.h"
#include "subjects.h"
#include <xen/hvm/dm_op.h>

static struct requests requests;

static int device(int is_port, uint64_t address, uint64_t *data, uint32_t size, int is_write) {
  (void)is_port, (void)address, (void)data, (void)size, (void)is_write;
  die("the guest does not run");
}

static __attribute__((noinline)) void set_type(uint64_t gfn, hvmmem_type_t type) {
  must(xendevicemodel_set_mem_type(dm, (domid_t)requests.domid, type, gfn, 1), "xendevicemodel_set_mem_type");
}

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    for (uint32_t gfn = 0; gfn < RAM_SIZE / PAGE; gfn++) set_type(gfn, HVMMEM_ioreq_server);
    for (uint32_t gfn = 0; gfn < RAM_SIZE / PAGE; gfn++) set_type(gfn, HVMMEM_ram_rw);
  }
  return now_ns() - start;
}

sample_fn *page_track(char **args) {
  (void)args;
  requests_open(&requests, domain_create(), device);
  must(xendevicemodel_map_mem_type_to_ioreq_server(dm, (domid_t)requests.domid, requests.server, HVMMEM_ioreq_server,
                                                   XEN_DMOP_IOREQ_MEM_ACCESS_WRITE),
       "map_mem_type_to_ioreq_server");
  return sample;
}
