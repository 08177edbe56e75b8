/* The client of requests: its life, blocking in ATTACH, answers that do not come. */
#define _GNU_SOURCE
#include "cases.h"
#include "tap.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const uint8_t STORE[] = {0xb8, 0x00, 0xa0, 0x8e, 0xc0, 0x26, 0xa3, 0x00, 0x00, 0xf4, 0xeb, 0xfd};

struct attach {
  struct machine *machine;
  pthread_t thread;
  long result;
};

static void *attach_thread(void *argument) {
  struct attach *attach = argument;
  attach->result = machine_attach(attach->machine);
  return NULL;
}

static void noticed(int signal) { (void)signal; }

/** Starts a thread that blocks in ATTACH, and waits until it does. */
static void attach_start(struct attach *attach, struct machine *machine) {
  *attach = (struct attach){.machine = machine, .result = 99};
  pthread_create(&attach->thread, NULL, attach_thread, attach);
  while (strstr(control("state"), "\"waiters\":1") == NULL) usleep(1000);
}

static void wait_for(const char *text) {
  while (strstr(control("state"), text) == NULL) usleep(1000);
}

void check_clients(const char *abi) {
  struct machine machine;
  struct attach attach;
  boot(&machine, abi, STORE, sizeof STORE);
  bool hsm = machine.hsm;
  long id = machine.client;
  gives(machine_create_client(&machine), hsm ? -EEXIST : -EFAULT, "a second client");
  check(hsm ? id == 0 : id >= 1 && id <= 1023, "the first has the id %ld", id);
  machine.client = id;
  attach_start(&attach, &machine);
  sigaction(SIGUSR2, &(struct sigaction){.sa_handler = noticed, .sa_flags = SA_RESTART}, NULL);
  pthread_kill(attach.thread, SIGUSR2);
  pthread_join(attach.thread, NULL);
  gives(attach.result, 0, "ATTACH ends with a signal, without a request");
  attach_start(&attach, &machine);
  gives(machine_destroy_client(&machine), 0, "DESTROY_IOREQ_CLIENT while ATTACH blocks");
  pthread_join(attach.thread, NULL);
  gives(attach.result, hsm ? -ENODEV : 1, "ATTACH of a client that is destroyed");
  gives(machine_attach(&machine), hsm ? -ENODEV : -EFAULT, "ATTACH without a client");
  gives(machine_destroy_client(&machine), 0, "DESTROY_IOREQ_CLIENT of none");
  gives(machine_finish(&machine, 0), hsm ? 0 : -EFAULT, "NOTIFY without a client");
  gives(machine_create_client(&machine) < 0, 0, "a new client");
  if (!hsm) gives(machine_ioctl(&machine, IC_ATTACH_IOREQ_CLIENT, 1024), -EFAULT, "ATTACH with the id of no client");
  // A request that is never answered: CLEAR answers it with what is in the page, and the guest goes on.
  machine_start(&machine);
  next_request(&machine);
  gives(machine_attach(&machine), 0, "ATTACH while a request is open");
  gives(machine_clear(&machine), 0, "CLEAR_VM_IOREQ");
  wait_for("\"completions\":1");
  gives(machine_pause(&machine), 0, "PAUSE_VM");
  gives(machine_reset(&machine), 0, "RESET_VM");
  struct acrn_vcpu_regs regs = real_mode(0, 0x1000);
  machine_set_regs(&machine, &regs);
  machine_start(&machine);
  next_request(&machine);
  gives(machine_pause(&machine), 0, "PAUSE_VM while a request is open");
  gives(machine_reset(&machine), 0, "RESET_VM while a request is open");
  check(machine.slots[0].processed == ACRN_IOREQ_STATE_FREE, "the slot is FREE after it");
  machine_set_regs(&machine, &regs);
  machine_start(&machine);
  next_request(&machine);
  machine.slots[0].processed = ACRN_IOREQ_STATE_FREE;
  gives(machine_destroy(&machine), 0, "DESTROY_VM while a request is open");
  machine_close(&machine);
  // Two VMs, two clients: each its own requests.
  struct machine other;
  boot(&machine, abi, STORE, sizeof STORE);
  boot(&other, abi, STORE, sizeof STORE);
  machine_start(&other);
  next_request(&other);
  check(machine.slots[0].processed == ACRN_IOREQ_STATE_FREE, "a request of one VM is not in the page of another");
  if (!hsm) {
    struct machine crossed = machine;
    crossed.client = other.client;
    gives(machine_attach(&crossed), 0, "ids of clients are the machine's: ATTACH through another descriptor");
  }
  machine_end(&other);
  machine_end(&machine);
}
