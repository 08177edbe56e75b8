/*
 * What the parts of the stand-in share. A program under test opens /dev/acrn_hsm or /dev/acrn_vhm and makes ioctls; a seccomp
 * filter hands each of them to us (notify.c), and we do with KVM what the ACRN hypervisor and its kernel module would do.
 *
 * Threads: one answers system calls, one watches (hang-ups, signals, event fds, control), one per vCPU runs the guest.
 * `files_lock` covers the list of opened files and every ioctl; `vm->lock` what vCPU threads and ioctls share. Order: files_lock, lock.
 */
#ifndef STANDIN_H
#define STANDIN_H
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <linux/kvm.h>
#include "abi.h"

/** What an ioctl's handler returns when it is answered later. */
#define LATER LONG_MIN
/** What a hypercall returns that the hypervisor refuses without a better code. */
#define HV_REFUSED (-1L)
/** Entries of the table of RAM regions; none is given back before the VM is destroyed. */
#define REGION_TABLE 256
/** ATTACHes that block at one time in one VM. */
#define WAITERS 16

/* A system call of the program under test that waits for our answer. */
struct call {
  uint64_t id;
  pid_t tid;
  uint32_t cmd;
  uint64_t arg;
};

/* Guest memory [gpa, gpa + size) and our mapping of it: one KVM slot. */
struct segment {
  uint64_t gpa;
  uint64_t size;
  uint8_t *hva;
  uint32_t slot;
  /** ACRN_MEM_ACCESS_*; KVM itself knows writing only. */
  uint32_t access;
  struct mapping *in;
};

/* A mapping of the client's memory into ours; segments lie in it. */
struct mapping {
  uint8_t *hva;
  uint64_t size;
  /** Where it was mapped first, and where the client has it: to find a page by its frame number. */
  uint64_t gpa, va;
  pid_t pid;
  /** RAM is pinned until the VM ends; other pages while a segment shows them. */
  bool ram;
  unsigned segments;
  struct mapping *next;
};

enum request_state { REQUEST_NONE, REQUEST_PENDING, REQUEST_PROCESSING, REQUEST_DONE };

struct vm;
struct vcpu {
  struct vm *vm;
  unsigned id;
  int fd;
  struct kvm_run *run;
  pthread_t thread;
  pthread_cond_t wake;
  /** Between two KVM_RUNs, with nothing in flight. */
  bool parked;
  bool started;
  /** KVM waits for the end of an access before registers may change. */
  bool unfinished;
  enum request_state request;
  struct acrn_io_request asked;
  /** Why it runs no more, or null. */
  const char *stopped;
  struct kvm_sregs reset_sregs;
  struct kvm_regs reset_regs;
  struct kvm_lapic_state reset_lapic;
  struct kvm_mp_state reset_mp;
};

struct waiter {
  uint64_t id;
  pid_t tid;
};

struct eventfd {
  int fd;
  uint64_t addr, data;
  uint32_t len;
  bool port, match;
  struct acrn_msi_entry msi;
  bool irq;
  int client_fd;
  struct eventfd *next;
};

enum vm_state { VM_NONE, VM_CREATED, VM_STARTED, VM_PAUSED };

/* An opened file; one that a VM was created on has a vmid. */
struct vm {
  const struct abi *abi;
  int hangup_fd;
  ino_t inode;
  bool hung_up;
  /** VHM and HSM: a file whose VM was destroyed takes no other. */
  bool destroyed;
  struct vm *next;

  pthread_mutex_t lock;
  pthread_cond_t parked;
  enum vm_state state;
  unsigned vmid;
  /** UUID or name that it was created with. */
  uint8_t identity[16];
  int kvm_fd;
  struct vcpu *vcpus[REQUEST_SLOTS];
  unsigned vcpu_count;
  unsigned pauses;
  bool dead;

  struct segment *segments;
  unsigned segment_count, segment_room;
  uint32_t *free_slots;
  unsigned free_slot_count, next_slot;
  struct mapping *mappings;
  unsigned table_used;

  uint8_t *slots;
  uint8_t *monitor;
  /** 0: none. On the VHM the id that CREATE answered. */
  int client;
  uint32_t pending;
  struct waiter waiters[WAITERS];
  unsigned waiter_count;
  uint32_t config_address;
  struct eventfd *eventfds;

  /** Slots that were not FREE when a request came: the client wrote to them. */
  unsigned long slots_not_free;
  unsigned long requests, completions, strays;
};

/* One of the two ABIs. */
struct abi {
  const char *name;
  const char *path;
  /** The answer to an ioctl on a file without a VM. */
  long no_vm;
  /** The answer to an ioctl that is not in the table. */
  long unknown;
  /** What a blocked ATTACH gets when its client is destroyed. */
  long attach_ended;
  /** What the caller gets when the hypervisor refuses; 0: its own code. */
  long refused;
  /** Pages of RAM that one SET_MEMSEG takes; 0: any number. */
  uint64_t ram_pages;
  const struct ioctl_entry *ioctls;
};

struct ioctl_entry {
  uint32_t cmd;
  const char *name;
  long (*run)(struct vm *vm, const struct call *call);
  bool without_vm;
};

extern const struct abi hsm_abi, vhm_abi;

/** How the stand-in was started. */
extern struct options {
  bool hsm, vhm, verbose, polling;
  /** vCPUs of a VM whose creator names no CPUs. */
  unsigned vcpus;
  /** File for the report at the end, or null. */
  const char *report;
} options;

extern pthread_mutex_t files_lock;
extern struct vm *files;
extern unsigned long vms_created, vms_destroyed;
extern int kvm_system;

#define SAY(...) do { if (options.verbose) fprintf(stderr, "standin: " __VA_ARGS__); } while (0)

/* main.c */
void die(const char *what) __attribute__((noreturn));

/* notify.c: system calls */
int spawn_filtered(char **command, pid_t *child);
void start_child(void);
void serve_calls(void);
void answer(uint64_t id, long result);
bool still_waits(uint64_t id);
int file_of_call(const struct call *call, int fd);

/* shared.c: what both devices answer alike */
long hypercall(const struct vm *vm, long result);
long call_destroy_vm(struct vm *vm, const struct call *call);
long call_start_vm(struct vm *vm, const struct call *call);
long call_pause_vm(struct vm *vm, const struct call *call);
long call_reset_vm(struct vm *vm, const struct call *call);
long call_inject_msi(struct vm *vm, const struct call *call);
long call_set_irqline(struct vm *vm, const struct call *call);
long call_clear_vm_ioreq(struct vm *vm, const struct call *call);

/* client.c: the client's memory */
int copy_in(const struct call *call, void *to, size_t size);
int copy_out(const struct call *call, const void *from, size_t size);
long share(pid_t tid, uint64_t va, uint64_t size, uint8_t **hva);
pid_t process_of(pid_t tid);

/* vm.c: life cycle */
struct vm *open_file(const struct abi *abi, int hangup_fd, ino_t inode);
struct vm *file_by_inode(ino_t inode);
void release_file(struct vm *vm);
long vm_create(struct vm *vm, const uint8_t *identity, uint64_t affinity, uint16_t *vmid, uint16_t *vcpus);
long vm_start(struct vm *vm);
long vm_pause(struct vm *vm);
long vm_reset(struct vm *vm);
void vm_destroy(struct vm *vm);

/* vcpu.c */
long vcpu_add(struct vm *vm);
void vcpu_end(struct vcpu *vcpu);
long vcpu_set_regs(struct vm *vm, const struct acrn_vcpu_regs *regs);
void vcpu_reset(struct vcpu *vcpu);
void park_all(struct vm *vm);
void resume_all(struct vm *vm);
void vcpu_init_signals(void);

/* memory.c */
long memory_add_ram(struct vm *vm, pid_t tid, uint64_t gpa, uint64_t va, uint64_t size, uint32_t access);
long memory_add_frames(struct vm *vm, pid_t tid, uint64_t gpa, uint64_t physical, uint64_t size, uint32_t access);
long memory_remove(struct vm *vm, uint64_t gpa, uint64_t size);
uint32_t memory_access(const struct vm *vm, uint64_t gpa);
void memory_release(struct vm *vm);

/* frames.c: physical pages of the client */
bool frames_are(pid_t pid, uint64_t va, uint64_t physical, uint64_t size);
long frames_find(pid_t pid, uint64_t start, uint64_t end, uint64_t physical, uint64_t size, uint64_t *va);
long frames_find_anywhere(pid_t pid, uint64_t physical, uint64_t size, uint64_t *va);

/* ioreq.c */
long ioreq_set_page(struct vm *vm, pid_t tid, uint64_t va);
long ioreq_create_client(struct vm *vm);
void ioreq_destroy_client(struct vm *vm);
long ioreq_attach(struct vm *vm, const struct call *call);
long ioreq_complete(struct vm *vm, unsigned vcpu);
void ioreq_clear(struct vm *vm);
void ioreq_reset(struct vm *vm);
bool ioreq_run(struct vcpu *vcpu, struct acrn_io_request *request);
void ioreq_wake(struct vm *vm, long result);
void ioreq_watch_waiters(struct vm *vm, bool signals);
uint8_t *ioreq_slot(struct vm *vm, unsigned vcpu);

/* interrupts.c */
long interrupt_msi(struct vm *vm, const struct acrn_msi_entry *msi);
long interrupt_line(struct vm *vm, uint32_t gsi, uint32_t operation);
long interrupt_monitor(struct vm *vm, pid_t tid, uint64_t va);

/* eventfds.c */
long eventfd_io(struct vm *vm, const struct call *call);
long eventfd_irq(struct vm *vm, const struct call *call);
bool eventfd_takes(struct vm *vm, const struct acrn_io_request *request);
void eventfd_release(struct vm *vm);

/* faults.c: what goes wrong on demand */
long fault_for(const char *ioctl);
void fault_forge(const struct vcpu *vcpu, struct acrn_io_request *request);
const char *fault_command(char *line);

/* report.c */
void count_ioctl(const char *name, long result);
void report_baseline(void);
void report_thread_ended(void);
void report_state(FILE *out);

/* watch.c */
void watch_start(void);
void watch_file(struct vm *vm);
void watch_eventfd(int fd);
void watch_control(int fd);
void unwatch(int fd);
extern unsigned controls;
#endif
