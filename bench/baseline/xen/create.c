/* create: a domain with memory and an ioreq server that claims the ports, memory and PCI functions, and its destruction. */
#include "../subject.h"
#include "requests.h"
#include "subjects.h"
#include <stdlib.h>

static int device(int is_port, uint64_t address, uint64_t *data, uint32_t size, int is_write) {
  (void)is_port, (void)address, (void)data, (void)size, (void)is_write;
  die("the guest does not run");
}

static uint64_t sample(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    struct requests requests;
    uint32_t domid = domain_create();
    requests_open(&requests, domid, device);
    requests_claim(&requests, 0, 0, 0xffff);
    requests_claim(&requests, 1, 0, (1ull << 52) - 1);
    int size = (int)must(xc_domain_hvm_getcontext(xc, domid, NULL, 0), "xc_domain_hvm_getcontext");
    uint8_t *context = malloc((size_t)size);
    must(xc_domain_hvm_getcontext(xc, domid, context, (uint32_t)size), "xc_domain_hvm_getcontext");
    free(context);
    requests_close(&requests);
    domain_destroy(domid);
  }
  return now_ns() - start;
}

sample_fn *create(char **args) {
  (void)args;
  return sample;
}
