/* The host's end of the guest agent's protocol (src/guest/agent/protocol.ts). */
#ifndef AGENT_H
#define AGENT_H
#include <stdint.h>
/* AGENT_GPA, AGENT_PORT and opcodes, written by bench/baseline.ts from the same tables that our side uses. */
#include "agent-protocol.h"

/* A device: one 4-byte access at a guest-physical address. */
typedef void device_fn(uint64_t address, uint64_t *data, uint32_t size, int is_write);

/* Creates a domain, boots the agent of the file in it and runs it to its first fetch. Returns the domain. */
uint32_t agent_boot(const char *image_path, device_fn *device);
/* Gives the command and runs the guest until it asks for the next one. */
void agent_command(uint32_t opcode, const uint32_t *args, uint32_t count);

#endif
