/* A device model's loop: one ioreq server, its shared pages, its event channels. */
#ifndef REQUESTS_H
#define REQUESTS_H
#include "domain.h"
#include <xen/hvm/ioreq.h>

/* A device: one access of at most 8 bytes at a port or a guest-physical address. Returns 0 when it keeps the answer back. */
typedef int access_fn(int is_port, uint64_t address, uint64_t *data, uint32_t size, int is_write);

struct requests {
  uint32_t domid;
  ioservid_t server;
  shared_iopage_t *page;
  buffered_iopage_t *ring;
  /* Local ports of the vCPU and of the ring. */
  evtchn_port_t vcpu_port, ring_port;
  access_fn *device;
};

/* Creates and enables the server. The guest runs when the caller unpauses it. */
void requests_open(struct requests *requests, uint32_t domid, access_fn *device);
void requests_close(struct requests *requests);
/* Claims [start, end] of the ports, or of memory. */
void requests_claim(struct requests *requests, int is_memory, uint64_t start, uint64_t end);
/* Waits for an event and serves what has come. */
void requests_turn(struct requests *requests);
/* Gives the answer that the device kept back. */
void requests_answer(struct requests *requests, uint64_t data);

#endif
