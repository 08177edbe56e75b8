/* Interrupts that a guest takes, and event descriptors. */
#define _GNU_SOURCE
#include "cases.h"
#include "tap.h"
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define VECTOR 0x41
#define MSI_ADDRESS 0xfee00000UL

/*
 * Turns the local APIC on through its MSRs, gives the PIC vectors from 0x40 on with automatic end of interrupt, tells, and halts. The
 * handler of the vector, which is also that of line 1, stores its number at 0xA0030.
 */
static const uint8_t TAKE_MSI[] = {
    0xb8, 0x00, 0xa0, 0x8e, 0xc0,                                          // es -> 0xA0000
    0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32,                        // mov ecx, 0x1b; rdmsr
    0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00, 0x0f, 0x30,                        // or eax, 0xc00; wrmsr: x2APIC
    0x66, 0xb9, 0x0f, 0x08, 0x00, 0x00, 0x66, 0xb8, 0xff, 0x01, 0x00, 0x00,  // mov ecx, 0x80f; mov eax, 0x1ff
    0x66, 0x31, 0xd2, 0x0f, 0x30,                                          // xor edx, edx; wrmsr: on
    0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x40, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21,  // the PIC's first three words
    0xb0, 0x03, 0xe6, 0x21, 0xb0, 0x00, 0xe6, 0x21,                        // the fourth, and no mask
    0x26, 0xa3, 0x00, 0x00,                                                // mov es:[0], ax: ready
    0xfb, 0xf4, 0xeb, 0xfd,                                                // sti; hlt; again
};
static const uint8_t HANDLER[] = {
    0x26, 0xc6, 0x06, 0x30, 0x00, VECTOR,                                    // mov byte es:[0x30], VECTOR
    0x66, 0xb9, 0x0b, 0x08, 0x00, 0x00, 0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2,  // end of interrupt
    0x0f, 0x30, 0xcf,                                                        // wrmsr; iret
};

static void boot_with_handler(struct machine *machine, const char *abi, const uint8_t *code, size_t size) {
  boot(machine, abi, code, size);
  memcpy(machine->ram + 0x1800, HANDLER, sizeof HANDLER);
  *(uint16_t *)(machine->ram + VECTOR * 4) = 0x800;
  *(uint16_t *)(machine->ram + VECTOR * 4 + 2) = 0x100;
  machine_start(machine);
  next_request(machine);
  finish(machine, 0);
}

static void expect_interrupt(struct machine *machine, const char *what) {
  const struct acrn_io_request *slot = next_request(machine);
  check(slot->reqs.mmio_request.address == 0xa0030 && slot->reqs.mmio_request.value == VECTOR, "%s reaches the guest's handler", what);
  finish(machine, 0);
}

static void irqfd(struct machine *machine) {
  int event = eventfd(0, EFD_CLOEXEC), pipes[2];
  uint64_t one = 1, count = 0;
  unsigned long request = machine->hsm ? ACRN_IOCTL_IRQFD : IC_EVENT_IRQFD;
  struct acrn_irqfd args = {.fd = event, .msi = {MSI_ADDRESS, VECTOR}};
  gives(machine_ioctl(machine, request, (uintptr_t)&args), 0, "IRQFD");
  gives(machine_ioctl(machine, request, (uintptr_t)&args), -EBUSY, "IRQFD again");
  check(write(event, &one, sizeof one) == sizeof one, "a signal of the descriptor");
  expect_interrupt(machine, "an irqfd's interrupt");
  check(write(event, &one, sizeof one) == sizeof one, "and another");
  expect_interrupt(machine, "the second");
  check(read(event, &count, sizeof count) == sizeof count && count == 2, "the count stays the caller's");
  args.flags = ACRN_IRQFD_FLAG_DEASSIGN;
  gives(machine_ioctl(machine, request, (uintptr_t)&args), 0, "IRQFD with DEASSIGN");
  gives(machine_ioctl(machine, request, (uintptr_t)&args), 0, "IRQFD with DEASSIGN again");
  args = (struct acrn_irqfd){.fd = -1};
  gives(machine_ioctl(machine, request, (uintptr_t)&args), -EBADF, "IRQFD without a descriptor");
  if (pipe(pipes) < 0) return;
  args.fd = pipes[0];
  gives(machine_ioctl(machine, request, (uintptr_t)&args), -EINVAL, "IRQFD with a descriptor that is no eventfd");
  close(pipes[0]);
  close(pipes[1]);
  close(event);
}

void check_interrupts(const char *abi) {
  struct machine machine;
  boot_with_handler(&machine, abi, TAKE_MSI, sizeof TAKE_MSI);
  gives(machine_inject(&machine, MSI_ADDRESS, VECTOR), 0, "INJECT_MSI");
  expect_interrupt(&machine, "the MSI");
  gives(machine_inject(&machine, 0xfed00000, VECTOR), REFUSED(&machine), "INJECT_MSI to an address of no APIC");
  gives(machine_inject(&machine, MSI_ADDRESS | 1UL << 32, VECTOR), REFUSED(&machine), "INJECT_MSI above 4 GiB");
  gives(machine_line(&machine, 24, GSI_SET_HIGH), REFUSED(&machine), "SET_IRQLINE of a line that is not there");
  gives(machine_line(&machine, 1, 4), REFUSED(&machine), "SET_IRQLINE with an operation that is not there");
  gives(machine_line(&machine, 1, GSI_SET_HIGH), 0, "SET_IRQLINE");
  expect_interrupt(&machine, "the line");
  gives(machine_line(&machine, 1, GSI_SET_LOW), 0, "SET_IRQLINE, low again");
  gives(machine_line(&machine, 1, GSI_RAISING_PULSE), 0, "SET_IRQLINE, a pulse");
  expect_interrupt(&machine, "the pulse");
  irqfd(&machine);
  unsigned long monitor = machine.hsm ? ACRN_IOCTL_VM_INTR_MONITOR : IC_VM_INTR_MONITOR;
  struct intr_monitor *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  page->count = 24;
  gives(machine_ioctl(&machine, monitor, (uintptr_t)page), 0, "VM_INTR_MONITOR");
  check(page->count == 0, "no interrupts of passed-through devices");
  gives(machine_ioctl(&machine, monitor, 0), machine.hsm ? -EFAULT : -ENOMEM, "VM_INTR_MONITOR of no page");
  munmap(page, PAGE);
  machine_end(&machine);
}

/* mov word es:[0x50], 7; mov word es:[0x50], 8; mov ax, es:[0x50]; mov es:[0], ax */
static const uint8_t SIGNAL[] = {
    0xb8, 0x00, 0xa0, 0x8e, 0xc0, 0x26, 0xc7, 0x06, 0x50, 0x00, 0x07, 0x00, 0x26, 0xc7, 0x06, 0x50,
    0x00, 0x08, 0x00, 0x26, 0xa1, 0x50, 0x00, 0x26, 0xa3, 0x00, 0x00, 0xf4, 0xeb, 0xfd,
};

void check_eventfds(const char *abi) {
  struct machine machine;
  boot(&machine, abi, SIGNAL, sizeof SIGNAL);
  int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  unsigned long request = machine.hsm ? ACRN_IOCTL_IOEVENTFD : IC_EVENT_IOEVENTFD;
  struct acrn_ioeventfd args = {.fd = (uint32_t)event, .flags = ACRN_IOEVENTFD_FLAG_DATAMATCH, .addr = 0xa0050, .len = 2, .data = 7};
  gives(machine_ioctl(&machine, request, (uintptr_t)&args), 0, "IOEVENTFD");
  gives(machine_ioctl(&machine, request, (uintptr_t)&args), -EEXIST, "IOEVENTFD at the same place");
  struct acrn_ioeventfd wrong = args;
  wrong.addr = 0xa0060;
  wrong.len = 3;
  gives(machine_ioctl(&machine, request, (uintptr_t)&wrong), -EINVAL, "IOEVENTFD of 3 bytes");
  wrong.len = 8;
  wrong.addr = ~0UL - 3;
  gives(machine_ioctl(&machine, request, (uintptr_t)&wrong), -EINVAL, "IOEVENTFD over the end of memory");
  machine_start(&machine);
  const struct acrn_io_request *slot = next_request(&machine);
  check(slot->reqs.mmio_request.address == 0xa0000, "the stores are no requests of the client");
  check(slot->reqs.mmio_request.value == 0, "a load there gives 0");
  uint64_t count = 0;
  check(read(event, &count, sizeof count) == sizeof count && count == 1, "the store with the value signals, the other does not");
  finish(&machine, 0);
  args.flags |= ACRN_IOEVENTFD_FLAG_DEASSIGN;
  gives(machine_ioctl(&machine, request, (uintptr_t)&args), 0, "IOEVENTFD with DEASSIGN");
  gives(machine_ioctl(&machine, request, (uintptr_t)&args), 0, "IOEVENTFD with DEASSIGN again");
  close(event);
  machine_end(&machine);
}
