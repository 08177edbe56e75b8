/*
 * The smallest Xen domain that runs the guest agent, through the libraries that the xen backend loads: the memory, emulated
 * devices and page tables that it gives a domain, without checks, counters, tables or layers.
 */
#ifndef DOMAIN_H
#define DOMAIN_H
#include <stddef.h>
#include <stdint.h>
#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>

#define PAGE 4096u
#define RAM_SIZE (16u << 20)

/* Handles of the libraries, opened once a process by `xen_open`. */
extern xc_interface *xc;
extern xendevicemodel_handle *dm;
extern xenforeignmemory_handle *fm;

/* Opens the libraries. From here on SIGINT and SIGTERM end the program as the end of stdin does. */
void xen_open(void);
/* Makes a failed call end the program. */
long must(long result, const char *what);

/* An HVM domain with RAM_SIZE bytes from 0 on, paused. It is destroyed when the program ends. */
uint32_t domain_create(void);
void domain_destroy(uint32_t domid);
/* Points vCPU 0 at `gpa` in real mode. */
void domain_boot(uint32_t domid, uint32_t gpa);

#endif
