/* The host's end of the guest agent's protocol (src/guest/agent/protocol.ts). */
#ifndef AGENT_H
#define AGENT_H
#include "vm.h"
/* AGENT_GPA, AGENT_PORT and opcodes, written by bench/baseline.ts from the same tables that our side uses. */
#include "agent-protocol.h"

/* A device: one 4-byte access at a guest-physical address, or a store to a write-protected page after RAM has it. */
typedef void access_fn(uint64_t address, void *data, uint32_t length, int is_write);

/* Boots the agent of the file and runs it to its first fetch. */
void agent_boot(struct vm *vm, const char *image_path, access_fn *device);
/* Gives the command and runs the guest until it asks for the next one. */
void agent_command(struct vm *vm, uint32_t opcode, const uint32_t *args, uint32_t count, access_fn *device);

#endif
