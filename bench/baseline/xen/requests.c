#include "requests.h"
#include "../subject.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <xen/hvm/dm_op.h>
#include <xen/memory.h>

#define WAIT_MS 50
#define PAGES 2

static xenevtchn_handle *events;
static xenforeignmemory_resource_handle *resource;

void requests_open(struct requests *requests, uint32_t domid, access_fn *device) {
  evtchn_port_t ring_port;
  void *pages = NULL;
  requests->domid = domid;
  requests->device = device;
  events = xenevtchn_open(NULL, 0);
  if (events == NULL) die("xenevtchn_open failed: %s", strerror(errno));
  must(xendevicemodel_create_ioreq_server(dm, domid, HVM_IOREQSRV_BUFIOREQ_ATOMIC, &requests->server), "create_ioreq_server");
  must(xendevicemodel_get_ioreq_server_info(dm, domid, requests->server, NULL, NULL, &ring_port), "get_ioreq_server_info");
  resource = xenforeignmemory_map_resource(fm, domid, XENMEM_resource_ioreq_server, requests->server, 0, PAGES, &pages,
                                           PROT_READ | PROT_WRITE, 0);
  if (resource == NULL) die("mapping the ioreq server failed: %s", strerror(errno));
  requests->ring = pages;
  requests->page = (void *)((uint8_t *)pages + PAGE);
  must(xendevicemodel_set_ioreq_server_state(dm, domid, requests->server, 1), "set_ioreq_server_state");
  requests->vcpu_port = (evtchn_port_t)must(xenevtchn_bind_interdomain(events, domid, requests->page->vcpu_ioreq[0].vp_eport), "bind");
  requests->ring_port = (evtchn_port_t)must(xenevtchn_bind_interdomain(events, domid, ring_port), "bind");
}

void requests_close(struct requests *requests) {
  xenevtchn_close(events);
  xenforeignmemory_unmap_resource(fm, resource);
  xendevicemodel_destroy_ioreq_server(dm, requests->domid, requests->server);
}

void requests_claim(struct requests *requests, int is_memory, uint64_t start, uint64_t end) {
  must(xendevicemodel_map_io_range_to_ioreq_server(dm, requests->domid, requests->server, is_memory, start, end), "map_io_range");
}

static void respond(struct requests *requests, struct ioreq *request) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  request->state = STATE_IORESP_READY;
  must(xenevtchn_notify(events, requests->vcpu_port), "xenevtchn_notify");
}

void requests_answer(struct requests *requests, uint64_t data) {
  struct ioreq *request = &requests->page->vcpu_ioreq[0];
  request->data = data;
  respond(requests, request);
}

/* Serves the vCPU's request, if it has one. */
static void serve_vcpu(struct requests *requests) {
  struct ioreq *request = &requests->page->vcpu_ioreq[0];
  if (request->state != STATE_IOREQ_READY) return;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  struct ioreq copy = *request;
  request->state = STATE_IOREQ_INPROCESS;
  if (copy.type != IOREQ_TYPE_PIO && copy.type != IOREQ_TYPE_COPY) die("unexpected request of type %u", copy.type);
  if (copy.data_is_ptr || copy.count != 1 || copy.size > sizeof copy.data) die("unexpected string instruction");
  if (!requests->device(copy.type == IOREQ_TYPE_PIO, copy.addr, &copy.data, copy.size, copy.dir == IOREQ_WRITE)) return;
  if (copy.dir == IOREQ_READ) request->data = copy.data;
  respond(requests, request);
}

/* Writes that Xen does not wait for. None is expected of this guest: Xen posts those of the VGA and of HVM_IOREQSRV's ports. */
static void serve_ring(struct requests *requests) {
  const buffered_iopage_t *ring = requests->ring;
  if (__atomic_load_n(&ring->read_pointer, __ATOMIC_ACQUIRE) != __atomic_load_n(&ring->write_pointer, __ATOMIC_ACQUIRE))
    die("unexpected write in the ring");
}

static void check_alive(uint32_t domid) {
  xc_domaininfo_t info;
  if (xc_domain_getinfolist(xc, domid, 1, &info) != 1 || info.domain != domid) die("domain %u is gone", domid);
  if (info.flags & (XEN_DOMINF_shutdown | XEN_DOMINF_dying)) die("domain %u ended", domid);
}

void requests_turn(struct requests *requests) {
  struct pollfd pollfd = {.fd = xenevtchn_fd(events), .events = POLLIN};
  int ready = poll(&pollfd, 1, WAIT_MS);
  if (ready < 0 && errno != EINTR) die("poll failed: %s", strerror(errno));
  if (ready == 0) check_alive(requests->domid);
  if (ready <= 0) return;
  evtchn_port_t port = (evtchn_port_t)must(xenevtchn_pending(events), "xenevtchn_pending");
  must(xenevtchn_unmask(events, port), "xenevtchn_unmask");
  serve_ring(requests);
  if (port == requests->vcpu_port) serve_vcpu(requests);
}
