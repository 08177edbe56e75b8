#include "agent.h"
#include "../subject.h"
#include "memory.h"
#include "requests.h"
#include <fcntl.h>
#include <unistd.h>

#define PORTS 8u
#define BAR 0xc0000000u
#define BAR_SIZE (2u << 20)

static struct requests requests;
static device_fn *device;
/* What the agent is still to be given, and whether it waits for more. */
static const uint32_t *args;
static uint32_t left;
static int fetching;

static int answer(int is_port, uint64_t address, uint64_t *data, uint32_t size, int is_write) {
  if (!is_port) device(address, data, size, is_write);
  else if (address != AGENT_PORT) die("the guest took an exception or used port 0x%llx", (unsigned long long)address);
  else if (!is_write) {
    if (left == 0) {
      fetching = 1;
      return 0;
    }
    *data = *args++;
    left--;
  }
  return 1;
}

static void run_to_fetch(void) {
  fetching = 0;
  while (!fetching) requests_turn(&requests);
}

uint32_t agent_boot(const char *image_path, device_fn *answers) {
  uint8_t image[PAGE];
  int fd = (int)must(open(image_path, O_RDONLY | O_CLOEXEC), image_path);
  size_t length = (size_t)must(read(fd, image, sizeof image), image_path);
  uint32_t domid = domain_create();
  close(fd);
  device = answers;
  requests_open(&requests, domid, answer);
  requests_claim(&requests, 0, AGENT_PORT, AGENT_PORT + PORTS - 1);
  requests_claim(&requests, 1, BAR, BAR + BAR_SIZE - 1);
  memory_write(domid, AGENT_GPA, image, length);
  domain_boot(domid, AGENT_GPA);
  must(xc_domain_unpause(xc, domid), "xc_domain_unpause");
  run_to_fetch();
  return domid;
}

void agent_command(uint32_t opcode, const uint32_t *values, uint32_t count) {
  args = values;
  left = count;
  requests_answer(&requests, opcode);
  run_to_fetch();
}
