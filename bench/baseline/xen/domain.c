#include "domain.h"
#include "../subject.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xen/hvm/save.h>

#define ORDER_2M 9u
#define CHUNKS (RAM_SIZE / PAGE >> ORDER_2M)
#define SPARE_KIB 1024u
#define PAGING_MIB 3u

xc_interface *xc;
xendevicemodel_handle *dm;
xenforeignmemory_handle *fm;

/* Domains live until they are destroyed, not until their creator ends. */
static uint32_t alive;

static void at_exit(void) {
  if (alive != 0) xc_domain_destroy(xc, alive);
}

static void on_signal(int number) {
  (void)number;
  close(STDIN_FILENO);
}

long must(long result, const char *what) {
  if (result < 0) die("%s failed: %s", what, strerror(errno));
  return result;
}

void xen_open(void) {
  struct sigaction action = {.sa_handler = on_signal};
  xc = xc_interface_open(NULL, NULL, 0);
  dm = xendevicemodel_open(NULL, 0);
  fm = xenforeignmemory_open(NULL, 0);
  if (xc == NULL || dm == NULL || fm == NULL) die("opening Xen's libraries failed: %s", strerror(errno));
  atexit(at_exit);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

uint32_t domain_create(void) {
  struct xen_domctl_createdomain config = {
      .handle = {'b', 'e', 'n', 'c', 'h'},
      .flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
      .max_vcpus = 1,
      .max_evtchn_port = 1023,
      .max_grant_frames = 64,
      .max_maptrack_frames = 1024,
      .grant_opts = 1,
      .arch.emulation_flags = XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI,
  };
  uint32_t domid = 0;
  unsigned int paging = PAGING_MIB;
  xen_pfn_t gfns[CHUNKS];
  must(xc_domain_create(xc, &domid, &config), "xc_domain_create");
  alive = domid;
  must(xc_domain_max_vcpus(xc, domid, 1), "xc_domain_max_vcpus");
  must(xc_shadow_control(xc, domid, XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION, &paging, 0), "xc_shadow_control");
  must(xc_domain_setmaxmem(xc, domid, RAM_SIZE / 1024 + SPARE_KIB), "xc_domain_setmaxmem");
  for (uint32_t i = 0; i < CHUNKS; i++) gfns[i] = (xen_pfn_t)i << ORDER_2M;
  must(xc_domain_populate_physmap_exact(xc, domid, CHUNKS, ORDER_2M, 0, gfns), "xc_domain_populate_physmap_exact");
  return domid;
}

void domain_destroy(uint32_t domid) {
  must(xc_domain_destroy(xc, domid), "xc_domain_destroy");
  alive = 0;
}

/* Records of a saved vCPU: HEADER, CPU, END, each behind its descriptor. */
struct context {
  struct hvm_save_descriptor header_descriptor;
  HVM_SAVE_TYPE(HEADER) header;
  struct hvm_save_descriptor cpu_descriptor;
  HVM_SAVE_TYPE(CPU) cpu;
  struct hvm_save_descriptor end_descriptor;
} __attribute__((packed));

void domain_boot(uint32_t domid, uint32_t gpa) {
  struct context context = {
      .cpu_descriptor = {.typecode = HVM_SAVE_CODE(CPU), .length = HVM_SAVE_LENGTH(CPU)},
      .end_descriptor = {.typecode = HVM_SAVE_CODE(END)},
  };
  HVM_SAVE_TYPE(CPU) cpu = {.rflags = 2, .cr0 = 0x10, .dr6 = 0xffff0ff0, .dr7 = 0x400, .idtr_limit = 0xffff, .gdtr_limit = 0xffff};
  int size = (int)must(xc_domain_hvm_getcontext(xc, domid, NULL, 0), "xc_domain_hvm_getcontext");
  uint8_t *saved = malloc((size_t)size);
  must(xc_domain_hvm_getcontext(xc, domid, saved, (uint32_t)size), "xc_domain_hvm_getcontext");
  memcpy(&context, saved, sizeof context.header_descriptor + sizeof context.header);
  free(saved);
  cpu.cs_base = gpa;
  cpu.cs_sel = gpa >> 4;
  cpu.cs_limit = cpu.ds_limit = cpu.es_limit = cpu.fs_limit = cpu.gs_limit = cpu.ss_limit = cpu.tr_limit = cpu.ldtr_limit = 0xffff;
  cpu.cs_arbytes = 0x9b;
  cpu.ds_arbytes = cpu.es_arbytes = cpu.fs_arbytes = cpu.gs_arbytes = cpu.ss_arbytes = 0x93;
  cpu.tr_arbytes = 0x8b;
  cpu.ldtr_arbytes = 0x82;
  context.cpu = cpu;
  must(xc_domain_hvm_setcontext(xc, domid, (uint8_t *)&context, sizeof context), "xc_domain_hvm_setcontext");
}
