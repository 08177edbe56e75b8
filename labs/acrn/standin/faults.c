/*
 * What goes wrong on demand. Commands, from the command line (--fault) or the control device, one a line:
 *
 *   fail NAME ERRNO [NTH [TIMES]]   the NTH ioctl of that name from now on fails, TIMES in a row (default 1 and 1); NAME `any` is every one
 *   forge FIELD=VALUE...            the next request of a vCPU shows these in its slot: type state size address value direction polling
 *   clear                           no faults any more
 */
#include "standin.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FAULTS 32

static const struct {
  const char *name;
  int value;
} errors[] = {{"EINTR", EINTR}, {"EAGAIN", EAGAIN}, {"ENOMEM", ENOMEM}, {"EBUSY", EBUSY},   {"EFAULT", EFAULT},
              {"ENODEV", ENODEV}, {"EINVAL", EINVAL}, {"EPERM", EPERM},   {"EEXIST", EEXIST}, {"ENOTTY", ENOTTY}};

static struct fault {
  char name[32];
  int error;
  unsigned long after, times;
} faults[FAULTS];
static unsigned fault_count;

enum field { TYPE, STATE, SIZE, ADDRESS, VALUE, DIRECTION, POLLING, FIELDS };
static const char *const field_names[FIELDS] = {"type", "state", "size", "address", "value", "direction", "polling"};
static struct {
  bool set[FIELDS];
  uint64_t value[FIELDS];
  bool any;
} forged;
/** Of both tables: the watching thread writes them. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/** @return the error that this ioctl must fail with, or 0 */
long fault_for(const char *ioctl) {
  long error = 0;
  pthread_mutex_lock(&lock);
  for (unsigned i = 0; i < fault_count && error == 0; i++) {
    struct fault *fault = &faults[i];
    if (strcmp(fault->name, ioctl) != 0 && strcmp(fault->name, "any") != 0) continue;
    if (fault->after > 0) {
      fault->after--;
      continue;
    }
    error = -fault->error;
    if (--fault->times == 0) faults[i] = faults[--fault_count];
  }
  pthread_mutex_unlock(&lock);
  return error;
}

/** Falsifies what a vCPU shows in its slot; what it asked stays what it asked. */
void fault_forge(const struct vcpu *vcpu, struct acrn_io_request *request) {
  (void)vcpu;
  pthread_mutex_lock(&lock);
  if (forged.any) {
    struct acrn_mmio_request *io = &request->reqs.mmio_request;
    uint64_t *value = forged.value;
    if (forged.set[TYPE]) request->type = (uint32_t)value[TYPE];
    if (forged.set[STATE]) request->processed = (uint32_t)value[STATE];
    if (forged.set[SIZE]) io->size = value[SIZE];
    if (forged.set[ADDRESS]) io->address = value[ADDRESS];
    if (forged.set[VALUE]) io->value = value[VALUE];
    if (forged.set[DIRECTION]) io->direction = (uint32_t)value[DIRECTION];
    if (forged.set[POLLING]) request->completion_polling = (uint32_t)value[POLLING];
    memset(&forged, 0, sizeof forged);
  }
  pthread_mutex_unlock(&lock);
}

static const char *add_fault(const char *name, const char *error, const char *nth, const char *times) {
  if (name == NULL || error == NULL) return "usage: fail NAME ERRNO [NTH [TIMES]]";
  if (fault_count == FAULTS) return "too many faults";
  struct fault fault = {.after = nth == NULL ? 0 : strtoul(nth, NULL, 0) - 1, .times = times == NULL ? 1 : strtoul(times, NULL, 0)};
  if (strlen(name) >= sizeof fault.name) return "no ioctl has such a long name";
  strcpy(fault.name, name);
  for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
    if (strcmp(errors[i].name, error) == 0) fault.error = errors[i].value;
  if (fault.error == 0 || fault.times == 0 || fault.after == ULONG_MAX) return "no such error, or NTH or TIMES is 0";
  faults[fault_count++] = fault;
  return NULL;
}

static const char *add_forgery(char **rest) {
  for (char *word; (word = strtok_r(NULL, " ", rest)) != NULL;) {
    char *equals = strchr(word, '=');
    if (equals == NULL) return "usage: forge FIELD=VALUE...";
    *equals = '\0';
    int field = 0;
    while (field < FIELDS && strcmp(field_names[field], word) != 0) field++;
    if (field == FIELDS) return "no such field: type state size address value direction polling";
    forged.set[field] = forged.any = true;
    forged.value[field] = strtoull(equals + 1, NULL, 0);
  }
  return NULL;
}

/** Obeys a line. @return what is wrong with it, or null */
const char *fault_command(char *line) {
  char *rest, *verb = strtok_r(line, " ", &rest);
  if (verb == NULL) return "an empty line";
  const char *problem = NULL;
  pthread_mutex_lock(&lock);
  if (strcmp(verb, "fail") == 0) {
    char *words[4];
    for (int i = 0; i < 4; i++) words[i] = strtok_r(NULL, " ", &rest);
    problem = add_fault(words[0], words[1], words[2], words[3]);
  } else if (strcmp(verb, "forge") == 0) {
    problem = add_forgery(&rest);
  } else if (strcmp(verb, "clear") == 0) {
    fault_count = 0;
    memset(&forged, 0, sizeof forged);
  } else {
    problem = "commands are state, fail, forge, clear";
  }
  pthread_mutex_unlock(&lock);
  return problem;
}
