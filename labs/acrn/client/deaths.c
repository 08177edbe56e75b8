/* Ends without a goodbye, several vCPUs, and faults on demand. */
#define _GNU_SOURCE
#include "cases.h"
#include "tap.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t SPIN[] = {0xeb, 0xfe};
static const uint8_t STORES[] = {0xb8, 0x00, 0xa0, 0x8e, 0xc0, 0x26, 0xa3, 0x00, 0x00, 0xeb, 0xfa};

/** Nothing is left but the files that are open now. */
static bool clean(void) {
  for (int i = 0; i < 1000; i++) {
    if (strstr(control("state"), "\"leaked\":{\"fds\":0,\"threads\":0,\"mappings\":0},\"files\":[]") != NULL) return true;
    usleep(1000);
  }
  return false;
}

static void serve(struct machine *machine) {
  for (;;) {
    next_request(machine);
    finish(machine, 0);
  }
}

static void dies(const char *abi, const char *how, const uint8_t *code, size_t size, void (*meanwhile)(struct machine *)) {
  pid_t child = fork();
  if (child == 0) {
    struct machine machine;
    boot(&machine, abi, code, size);
    machine_start(&machine);
    meanwhile(&machine);
    _exit(1);
  }
  // The child's state is looked at from outside, so that the kill comes when it is where it should be.
  while (strstr(control("state"), "\"state\":\"started\"") == NULL) usleep(1000);
  usleep(3000);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  check(clean(), "SIGKILL %s leaves nothing", how);
}

static void sleep_on(struct machine *machine) {
  (void)machine;
  pause();
}

static void block(struct machine *machine) { machine_attach(machine); }

static void *block_thread(void *machine) { return (void *)machine_attach(machine); }

static void noticed(int signal) { (void)signal; }

/** As in the kernel: a call in progress keeps the file, so the VM outlives its last descriptor until the call ends. */
static void close_while_blocked(const char *abi) {
  struct machine machine;
  boot(&machine, abi, SPIN, sizeof SPIN);
  pthread_t thread;
  pthread_create(&thread, NULL, block_thread, &machine);
  while (strstr(control("state"), "\"waiters\":1") == NULL) usleep(1000);
  machine_close(&machine);
  usleep(20000);
  check(strstr(control("state"), "\"waiters\":1") != NULL, "close while ATTACH blocks: the VM is there until it ends");
  sigaction(SIGUSR2, &(struct sigaction){.sa_handler = noticed, .sa_flags = SA_RESTART}, NULL);
  pthread_kill(thread, SIGUSR2);
  void *result;
  pthread_join(thread, &result);
  gives((long)result, 0, "that ATTACH, after a signal");
  check(clean(), "nothing is left then, without DESTROY_VM");
}

/* The first vCPU starts the second through its local APIC, which stores at 0xA0040. */
static const uint8_t START_SECOND[] = {
    0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32, 0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00, 0x0f, 0x30,  // x2APIC
    0x66, 0xb9, 0x30, 0x08, 0x00, 0x00, 0x66, 0xba, 0x01, 0x00, 0x00, 0x00,                          // ecx = 0x830, edx = 1
    0x66, 0xb8, 0x00, 0x45, 0x00, 0x00, 0x0f, 0x30,                                                  // INIT
    0x66, 0xb8, 0x03, 0x46, 0x00, 0x00, 0x0f, 0x30,                                                  // start at 0x3000
    0xf4, 0xeb, 0xfd,
};
static const uint8_t SECOND[] = {0xb8, 0x00, 0xa0, 0x8e, 0xc0, 0x26, 0xa3, 0x40, 0x00, 0xf4, 0xeb, 0xfd};

static void two_vcpus(const char *abi) {
  struct machine machine;
  machine_open(&machine, abi, RAM);
  struct acrn_vm_creation creation = {.ioreq_buf = (uintptr_t)machine.slots, .cpu_affinity = 6};
  gives(machine_ioctl(&machine, machine.hsm ? ACRN_IOCTL_CREATE_VM : IC_CREATE_VM, (uintptr_t)&creation), 0, "CREATE_VM on two CPUs");
  check(creation.vcpu_num == 2, "it has two vCPUs");
  machine.vcpus = creation.vcpu_num;
  machine_map(&machine, 0, machine.ram, RAM / 2, RWX);
  machine_create_client(&machine);
  memcpy(machine.ram + 0x1000, START_SECOND, sizeof START_SECOND);
  memcpy(machine.ram + 0x3000, SECOND, sizeof SECOND);
  struct acrn_vcpu_regs regs = real_mode(0, 0x1000);
  machine_set_regs(&machine, &regs);
  machine_start(&machine);
  const struct acrn_io_request *slot = next_request(&machine);
  check(slot == &machine.slots[1] && slot->reqs.mmio_request.address == 0xa0040, "the second vCPU's request is in slot 1");
  gives(machine_finish(&machine, 1), 0, "NOTIFY for it");
  machine_end(&machine);
}

static const uint8_t EXCEPTION[] = {0x0f, 0x0b};

/** An exception in protected mode, with an interrupt table that has no room. */
static void triple_fault(const char *abi) {
  struct machine machine;
  boot(&machine, abi, EXCEPTION, sizeof EXCEPTION);
  struct acrn_vcpu_regs regs = real_mode(0, 0);
  regs.vcpu_regs.cr0 |= 1;
  regs.vcpu_regs.cs_sel = 8;
  regs.vcpu_regs.cs_ar = 0xc09b;
  regs.vcpu_regs.cs_limit = 0xffffffff;
  regs.vcpu_regs.rip = 0x1000;
  regs.vcpu_regs.idt.limit = 0;
  gives(machine_set_regs(&machine, &regs), 0, "SET_VCPU_REGS for protected mode");
  machine_start(&machine);
  const struct acrn_io_request *slot = next_request(&machine);
  const struct acrn_pio_request *pio = &slot->reqs.pio_request;
  check(slot->type == ACRN_IOREQ_TYPE_PORTIO && pio->direction == ACRN_IOREQ_DIR_WRITE && pio->address == 0x404 && pio->size == 2 &&
            pio->value == 0x3400,
        "a triple fault is a write to PM1A_CNT that switches the machine off");
  finish(&machine, 0);
  while (strstr(control("state"), "\"why\":\"triple fault\"") == NULL) usleep(1000);
  check(true, "the vCPU runs no more");
  machine_end(&machine);
}

void check_deaths(const char *abi) {
  two_vcpus(abi);
  triple_fault(abi);
  check(clean(), "nothing is left of the checks until here");
  dies(abi, "while the guest spins", SPIN, sizeof SPIN, sleep_on);
  dies(abi, "in ATTACH", SPIN, sizeof SPIN, block);
  dies(abi, "with a request that no one answers", STORES, sizeof STORES, sleep_on);
  dies(abi, "amid requests", STORES, sizeof STORES, serve);
  close_while_blocked(abi);
}

void check_faults(const char *abi) {
  struct machine machine;
  control("fail create_vm ENOMEM");
  machine_open(&machine, abi, RAM);
  gives(machine_create(&machine), -ENOMEM, "CREATE_VM that is told to fail");
  gives(machine_create(&machine), 0, "and the next");
  control("fail inject_msi EINTR 2 2");
  gives(machine_inject(&machine, 0xfee00000, 1), 0, "the first INJECT_MSI");
  gives(machine_inject(&machine, 0xfee00000, 1), -EINTR, "the second");
  gives(machine_inject(&machine, 0xfee00000, 1), -EINTR, "the third");
  gives(machine_inject(&machine, 0xfee00000, 1), 0, "the fourth");
  control("fail any EBUSY");
  gives(machine_destroy(&machine), -EBUSY, "any that is told to fail");
  check(strstr(control("fail inject_msi EWRONG"), "\"ok\":false") != NULL, "an unknown error is refused");
  check(strstr(control("nonsense"), "\"ok\":false") != NULL, "an unknown command is refused");
  machine_end(&machine);
  control("forge type=9 size=3 address=0x1234 state=7");
  boot(&machine, abi, STORES, sizeof STORES);
  machine_start(&machine);
  gives(machine_attach(&machine), 0, "ATTACH with a forged request");
  const struct acrn_io_request *slot = &machine.slots[0];
  check(slot->type == 9 && slot->reqs.mmio_request.size == 3 && slot->reqs.mmio_request.address == 0x1234 && slot->processed == 7,
        "it shows what was forged");
  finish(&machine, 0);
  check(next_request(&machine)->type == ACRN_IOREQ_TYPE_MMIO, "the next is as it is");
  machine_end(&machine);
  check(clean(), "nothing is left of any check");
}
