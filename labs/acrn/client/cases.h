/* The subjects of the checks. Each opens what it needs and leaves nothing. */
#ifndef CASES_H
#define CASES_H
#include "machine.h"

/** RAM of a machine, unless a case needs more. */
#define RAM (1UL << 20)
#define RWX ACRN_MEM_ACCESS_RWX
/** What a refusal of the hypervisor becomes: the HSM hands its -1 on, the VHM has one code. */
#define REFUSED(machine) ((machine)->hsm ? -EPERM : -EFAULT)

void check_devices(const char *abi);
void check_states(const char *abi);
void check_structures(const char *abi);
void check_memory(const char *abi);
void check_requests(const char *abi);
void check_tracking(const char *abi);
void check_clients(const char *abi);
void check_interrupts(const char *abi);
void check_eventfds(const char *abi);
void check_deaths(const char *abi);
void check_faults(const char *abi);

/** A machine with a VM, RAM below 512 KiB, a client and registers for `code` at 0x1000. Ends the program when that fails. */
void boot(struct machine *machine, const char *abi, const void *code, size_t size);
/** Attaches until a request is PROCESSING, and gives its slot; ends the program after a while. */
struct acrn_io_request *next_request(struct machine *machine);
/** Answers the request of vCPU 0. */
void finish(struct machine *machine, uint64_t value);
void machine_end(struct machine *machine);
/** Asks the control device; the answer is static. */
const char *control(const char *line);
#endif
