/*
 * I/O requests: the shared page of 16 slots, the client that the program attaches to, and how a vCPU waits for its answer. The
 * client can write to the page at any moment, so what a vCPU asked and how far it is are kept here; of the slot only the value is taken.
 */
#include "standin.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000u
/** How often a vCPU looks for COMPLETE in polling mode. */
#define POLL_NS 20000

/** On the VHM the id of the clients for event descriptors: one for all, where the real module has one a VM. */
#define KERNEL_CLIENT 1
#define LAST_CLIENT 1023

static int last_client = KERNEL_CLIENT;

static struct acrn_io_request *slot_of(struct vm *vm, unsigned vcpu) { return (struct acrn_io_request *)(vm->slots + vcpu * SLOT_SIZE); }

static void set_state(struct acrn_io_request *slot, uint32_t state) { __atomic_store_n(&slot->processed, state, __ATOMIC_RELEASE); }

static uint32_t state_of(const struct acrn_io_request *slot) { return __atomic_load_n(&slot->processed, __ATOMIC_ACQUIRE); }

/** @return the slot's bytes, or null without a page */
uint8_t *ioreq_slot(struct vm *vm, unsigned vcpu) { return vm->slots == NULL || vcpu >= REQUEST_SLOTS ? NULL : vm->slots + vcpu * SLOT_SIZE; }

/** Takes the client's page, once. All slots are FREE then. */
long ioreq_set_page(struct vm *vm, pid_t tid, uint64_t va) {
  if (vm->slots != NULL) return -EEXIST;
  uint8_t *page;
  long result = va % PAGE == 0 ? share(tid, va, PAGE, &page) : -EINVAL;
  if (result < 0) return result;
  pthread_mutex_lock(&vm->lock);
  vm->slots = page;
  for (unsigned i = 0; i < REQUEST_SLOTS; i++) set_state(slot_of(vm, i), ACRN_IOREQ_STATE_FREE);
  pthread_mutex_unlock(&vm->lock);
  return 0;
}

/* Below: with vm->lock, unless it says otherwise. */

/** Answers all that block in ATTACH. */
void ioreq_wake(struct vm *vm, long result) {
  for (unsigned i = 0; i < vm->waiter_count; i++) answer(vm->waiters[i].id, result);
  vm->waiter_count = 0;
}

/**
 * Gives what is PENDING to the client. As the real module does it, only a new request or the end of a client makes anyone look:
 * a request that came before there was a client waits until then.
 */
static void distribute(struct vm *vm) {
  if (vm->client == 0) return;
  for (unsigned i = 0; i < vm->vcpu_count; i++) {
    struct vcpu *vcpu = vm->vcpus[i];
    if (vcpu->request != REQUEST_PENDING) continue;
    vcpu->request = REQUEST_PROCESSING;
    vm->pending |= 1u << i;
    struct acrn_io_request *slot = slot_of(vm, i);
    // The same word is whose request it is on the VHM, and whether the kernel answers it on the HSM.
    slot->kernel_handled = vm->abi == &vhm_abi ? (uint32_t)vm->client : 0;
    // A forged state stands.
    if (state_of(slot) == ACRN_IOREQ_STATE_PENDING) set_state(slot, ACRN_IOREQ_STATE_PROCESSING);
    ioreq_wake(vm, 0);
  }
}

static void complete(struct vcpu *vcpu) {
  set_state(slot_of(vcpu->vm, vcpu->id), ACRN_IOREQ_STATE_COMPLETE);
  if (vcpu->request == REQUEST_NONE) return;
  vcpu->request = REQUEST_DONE;
  pthread_cond_signal(&vcpu->wake);
}

/** Configuration cycles through 0xCF8 and 0xCFC become PCI requests. @return true when no one else need see it */
static bool convert_config(struct vm *vm, struct acrn_io_request *request) {
  struct acrn_pio_request *pio = &request->reqs.pio_request;
  bool read = pio->direction == ACRN_IOREQ_DIR_READ;
  if (request->type != ACRN_IOREQ_TYPE_PORTIO) return false;
  if (pio->address == CONFIG_ADDRESS) {
    if (read) pio->value = vm->config_address;
    else vm->config_address = pio->value;
    return true;
  }
  if (pio->address < CONFIG_DATA || pio->address >= CONFIG_DATA + 4) return false;
  uint32_t address = vm->config_address;
  if ((address & CONFIG_ENABLE) == 0) {
    if (read) pio->value = UINT32_MAX;
    return true;
  }
  uint32_t offset = (uint32_t)pio->address - CONFIG_DATA;
  // The two share direction, size and value; the address of the port makes room for the function.
  struct acrn_pci_request *pci = &request->reqs.pci_request;
  request->type = ACRN_IOREQ_TYPE_PCICFG;
  pci->bus = address >> 16 & 0xff;
  pci->dev = address >> 11 & 0x1f;
  pci->func = address >> 8 & 7;
  pci->reg = (address & 0xfc) + (address >> 16 & 0xf00) + offset;
  return false;
}

/** Waits for the answer in the slot, with the lock given back in between. */
static void await(struct vcpu *vcpu) {
  struct vm *vm = vcpu->vm;
  vcpu->parked = true;
  pthread_cond_broadcast(&vm->parked);
  while (vcpu->request != REQUEST_DONE && vcpu->request != REQUEST_NONE && !vm->dead) {
    if (!options.polling) {
      pthread_cond_wait(&vcpu->wake, &vm->lock);
      continue;
    }
    pthread_mutex_unlock(&vm->lock);
    nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    pthread_mutex_lock(&vm->lock);
    if (vcpu->request == REQUEST_PROCESSING && state_of(slot_of(vm, vcpu->id)) == ACRN_IOREQ_STATE_COMPLETE) {
      vm->pending &= ~(1u << vcpu->id);
      vcpu->request = REQUEST_DONE;
    }
  }
}

/**
 * Hands the request to whoever answers it and waits for that.
 * @return false when there is no answer: the VM is dead or reset
 */
bool ioreq_run(struct vcpu *vcpu, struct acrn_io_request *request) {
  struct vm *vm = vcpu->vm;
  if (vm->slots == NULL || vm->dead) return false;
  struct acrn_io_request *slot = slot_of(vm, vcpu->id);
  vm->requests++;
  if (state_of(slot) != ACRN_IOREQ_STATE_FREE) vm->slots_not_free++;
  if (convert_config(vm, request) || eventfd_takes(vm, request)) {
    // Seen for a moment by a client that looks: the kernel answers it.
    request->kernel_handled = vm->abi == &vhm_abi ? KERNEL_CLIENT : 1;
    memcpy(slot, request, offsetof(struct acrn_io_request, processed));
    set_state(slot, ACRN_IOREQ_STATE_COMPLETE);
    set_state(slot, ACRN_IOREQ_STATE_FREE);
    return true;
  }
  struct acrn_io_request shown = *request;
  shown.completion_polling = options.polling;
  shown.processed = ACRN_IOREQ_STATE_PENDING;
  fault_forge(vcpu, &shown);
  memcpy(slot, &shown, offsetof(struct acrn_io_request, processed));
  set_state(slot, shown.processed);
  vcpu->request = REQUEST_PENDING;
  distribute(vm);
  await(vcpu);
  bool answered = vcpu->request == REQUEST_DONE && !vm->dead;
  vcpu->request = REQUEST_NONE;
  vm->pending &= ~(1u << vcpu->id);
  if (answered) {
    // All three kinds have their value in the same place; a port has four bytes of it.
    memcpy(&request->reqs.mmio_request.value, &slot->reqs.mmio_request.value, request->type == ACRN_IOREQ_TYPE_MMIO ? 8 : 4);
    vm->completions++;
  }
  set_state(slot, ACRN_IOREQ_STATE_FREE);
  // Memory may be changing: back into the guest when that is over. The loop of the vCPU sees to it.
  return answered;
}

/** @return the id. One client a VM comes through the device: its others are the kernel's own */
long ioreq_create_client(struct vm *vm) {
  if (vm->client != 0) return -EEXIST;
  if (vm->slots == NULL) return -EINVAL;
  pthread_mutex_lock(&vm->lock);
  last_client = last_client == LAST_CLIENT ? KERNEL_CLIENT + 1 : last_client + 1;
  vm->client = last_client;
  pthread_mutex_unlock(&vm->lock);
  return vm->client;
}

/** Who blocks in ATTACH is told. What the client had not answered stays unanswered. */
void ioreq_destroy_client(struct vm *vm) {
  ioreq_wake(vm, vm->abi->attach_ended);
  vm->client = 0;
  vm->pending = 0;
}

/** Without the lock. Blocks until there is a request, the client ends or a signal comes. */
long ioreq_attach(struct vm *vm, const struct call *call) {
  pthread_mutex_lock(&vm->lock);
  long result = vm->pending != 0 ? 0 : vm->waiter_count == WAITERS ? -ENOMEM : LATER;
  if (result == LATER) vm->waiters[vm->waiter_count++] = (struct waiter){.id = call->id, .tid = call->tid};
  pthread_mutex_unlock(&vm->lock);
  return result;
}

/** Without the lock. The slot becomes COMPLETE even when it had no request, as with the real module. */
long ioreq_complete(struct vm *vm, unsigned vcpu) {
  if (vcpu >= vm->vcpu_count) return -EINVAL;
  pthread_mutex_lock(&vm->lock);
  if ((vm->pending & 1u << vcpu) == 0) vm->strays++;
  vm->pending &= ~(1u << vcpu);
  complete(vm->vcpus[vcpu]);
  pthread_mutex_unlock(&vm->lock);
  return 0;
}

/** Without the lock. All that the client has not answered is answered as it is in the page. */
void ioreq_clear(struct vm *vm) {
  pthread_mutex_lock(&vm->lock);
  for (unsigned i = 0; i < vm->vcpu_count; i++)
    if (vm->pending & 1u << i) complete(vm->vcpus[i]);
  vm->pending = 0;
  pthread_mutex_unlock(&vm->lock);
}

/** Forgets all requests, whoever has them. */
void ioreq_reset(struct vm *vm) {
  vm->pending = 0;
  for (unsigned i = 0; i < vm->vcpu_count; i++) {
    vm->vcpus[i]->request = REQUEST_NONE;
    pthread_cond_signal(&vm->vcpus[i]->wake);
  }
  for (unsigned i = 0; vm->slots != NULL && i < REQUEST_SLOTS; i++) set_state(slot_of(vm, i), ACRN_IOREQ_STATE_FREE);
}

/** True when a signal that the thread does not block waits for it. */
static bool has_signal(pid_t tid) {
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%d/status", tid);
  FILE *status = fopen(path, "re");
  if (status == NULL) return false;
  unsigned long own = 0, shared = 0, blocked = 0;
  while (fgets(line, sizeof line, status) != NULL) {
    if (sscanf(line, "SigPnd: %lx", &own) == 1 || sscanf(line, "ShdPnd: %lx", &shared) == 1) continue;
    if (sscanf(line, "SigBlk: %lx", &blocked) == 1) break;
  }
  fclose(status);
  return ((own | shared) & ~blocked) != 0;
}

/** Without the lock. Forgets waiters that are gone; with `signals`, those that a signal waits for get their 0. */
void ioreq_watch_waiters(struct vm *vm, bool signals) {
  pthread_mutex_lock(&vm->lock);
  unsigned kept = 0;
  for (unsigned i = 0; i < vm->waiter_count; i++) {
    struct waiter waiter = vm->waiters[i];
    if (!still_waits(waiter.id)) continue;
    if (signals && has_signal(waiter.tid)) answer(waiter.id, 0);
    else vm->waiters[kept++] = waiter;
  }
  vm->waiter_count = kept;
  pthread_mutex_unlock(&vm->lock);
}
