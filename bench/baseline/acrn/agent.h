/* The host's end of the guest agent's protocol (src/guest/agent/protocol.ts), over a char device of ACRN. */
#ifndef AGENT_H
#define AGENT_H
#include "../../../labs/acrn/client/machine.h"
/* AGENT_GPA, AGENT_PORT and opcodes, written by bench/baseline.ts from the same tables that our side uses. */
#include "agent-protocol.h"

/* A device: one access of the guest at an address. */
typedef void device_fn(uint64_t address, void *data, uint64_t size, int is_write);

/* Creates a VM on the device ("hsm" or "vhm"), boots the agent of the file in it and runs it to its first fetch. */
void agent_boot(struct machine *machine, const char *abi, const char *image_path, device_fn *device);
/* Gives the command and runs the guest until it asks for the next one. */
void agent_command(struct machine *machine, uint32_t opcode, const uint32_t *args, uint32_t count);
/* Makes a call's failure, -errno, end the program. */
long must(long result, const char *what);

#endif
