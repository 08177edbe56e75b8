/* What the stand-in holds, as one line of JSON. What could leak is counted by looking at /proc/self, not by our own books. */
#include "standin.h"
#include <dirent.h>
#include <errno.h>
#include <string.h>

#define NAMES 64

static struct counter {
  const char *name;
  unsigned long calls, failures;
} counters[NAMES];

struct held {
  long fds, threads, mappings;
};
static struct held baseline;

/** With files_lock. */
void count_ioctl(const char *name, long result) {
  for (unsigned i = 0; i < NAMES; i++) {
    if (counters[i].name == NULL) counters[i].name = name;
    if (strcmp(counters[i].name, name) != 0) continue;
    counters[i].calls++;
    if (result < 0 && result != LATER) counters[i].failures++;
    return;
  }
}

static long entries_of(const char *path) {
  DIR *folder = opendir(path);
  if (folder == NULL) return -1;
  long count = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) count += entry->d_name[0] != '.';
  closedir(folder);
  return count;
}

/** Shared mappings: the client's memory and what KVM shows of vCPUs. */
static long shared_mappings(void) {
  FILE *maps = fopen("/proc/self/maps", "re");
  if (maps == NULL) return -1;
  long count = 0;
  char line[512], rights[5];
  while (fgets(line, sizeof line, maps) != NULL) count += sscanf(line, "%*s %4s", rights) == 1 && rights[3] == 's';
  fclose(maps);
  return count;
}

static struct held held_now(void) {
  return (struct held){entries_of("/proc/self/fd"), entries_of("/proc/self/task"), shared_mappings()};
}

/** Remembers what is held before any file is opened. */
void report_baseline(void) { baseline = held_now(); }

/** A thread of the start is gone: no leak, and no room for one. */
void report_thread_ended(void) { baseline.threads--; }

static void report_vm(FILE *out, struct vm *vm) {
  static const char *const states[] = {"none", "created", "started", "paused"};
  pthread_mutex_lock(&vm->lock);
  unsigned mappings = 0, eventfds = 0;
  for (struct mapping *at = vm->mappings; at != NULL; at = at->next) mappings++;
  for (struct eventfd *at = vm->eventfds; at != NULL; at = at->next) eventfds++;
  fprintf(out,
          "{\"abi\":\"%s\",\"vmid\":%d,\"state\":\"%s\",\"vcpus\":%u,\"segments\":%u,\"mappings\":%u,\"tableUsed\":%u,\"client\":%d,"
          "\"waiters\":%u,\"pending\":%u,\"eventfds\":%u,\"requests\":%lu,\"completions\":%lu,\"strays\":%lu,\"slotsNotFree\":%lu,\"stopped\":[",
          vm->abi->name, vm->vmid == INVALID_VMID ? -1 : (int)vm->vmid, states[vm->state], vm->vcpu_count, vm->segment_count, mappings,
          vm->table_used, vm->client, vm->waiter_count, vm->pending, eventfds, vm->requests, vm->completions, vm->strays,
          vm->slots_not_free);
  const char *separator = "";
  for (unsigned i = 0; i < vm->vcpu_count; i++)
    if (vm->vcpus[i]->stopped != NULL) {
      fprintf(out, "%s{\"vcpu\":%u,\"why\":\"%s\"}", separator, i, vm->vcpus[i]->stopped);
      separator = ",";
    }
  fputs("]}", out);
  pthread_mutex_unlock(&vm->lock);
}

/** With files_lock. `leaked` is what is held beyond the start: 0 in each when no file is open. */
void report_state(FILE *out) {
  struct held now = held_now();
  fprintf(out, "{\"created\":%lu,\"destroyed\":%lu,\"leaked\":{\"fds\":%ld,\"threads\":%ld,\"mappings\":%ld},\"files\":[", vms_created,
          vms_destroyed, now.fds - baseline.fds - (long)controls, now.threads - baseline.threads, now.mappings - baseline.mappings);
  const char *separator = "";
  for (struct vm *vm = files; vm != NULL; vm = vm->next, separator = ",") {
    fputs(separator, out);
    report_vm(out, vm);
  }
  fputs("],\"ioctls\":{", out);
  separator = "";
  for (unsigned i = 0; i < NAMES && counters[i].name != NULL; i++, separator = ",")
    fprintf(out, "%s\"%s\":{\"calls\":%lu,\"failures\":%lu}", separator, counters[i].name, counters[i].calls, counters[i].failures);
  fputs("}}\n", out);
}
