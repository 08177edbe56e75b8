/*
 * acrn exits mmio-read|mmio-write IMAGE, acrn msi IMAGE: the smallest client of /dev/acrn_hsm that runs the guest agent. It waits
 * in ATTACH_IOREQ_CLIENT, looks at its slot, answers, and says that it has, as ACRN's own device model does.
 *
 * The device is a file of 32-bit registers behind one bounds check, as in exits.c.
 */
#include "../subject.h"
#include "agent-protocol.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/acrn.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PAGE 4096u
#define RAM_SIZE (16u << 20)
#define BAR 0xc0000000u
#define BAR_SIZE (2u << 20)
#define REGISTER 0x4f100u
#define MSI_ADDRESS 0xfee00000u
#define MSI_VECTOR 0x41

static int hsm;
static uint8_t *ram;
static struct acrn_io_request *slot;
static struct acrn_ioreq_notify finished;
static uint32_t registers[BAR_SIZE / 4];
static uint32_t opcode, accesses;

static long must(long result, const char *what) {
  if (result < 0) die("%s: %s", what, strerror(errno));
  return result;
}

static void *shared(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap: %s", strerror(errno));
  return memory;
}

static void finish(void) { must(ioctl(hsm, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, &finished), "NOTIFY_REQUEST_FINISH"); }

static void device(struct acrn_mmio_request *mmio) {
  uint64_t offset = mmio->address - BAR;
  accesses++;
  if (offset > BAR_SIZE - mmio->size) mmio->value = UINT64_MAX;
  else if (mmio->direction == ACRN_IOREQ_DIR_WRITE) memcpy((uint8_t *)registers + offset, &mmio->value, mmio->size);
  else memcpy(&mmio->value, (uint8_t *)registers + offset, mmio->size);
}

/* Runs the guest until it fetches and `args` are used up; that fetch stays open. */
static void pump(const uint32_t *args, uint32_t count) {
  for (;;) {
    must(ioctl(hsm, ACRN_IOCTL_ATTACH_IOREQ_CLIENT, 0), "ATTACH_IOREQ_CLIENT");
    if (__atomic_load_n(&slot->processed, __ATOMIC_ACQUIRE) != ACRN_IOREQ_STATE_PROCESSING || slot->kernel_handled) continue;
    struct acrn_pio_request *pio = &slot->reqs.pio_request;
    if (slot->type == ACRN_IOREQ_TYPE_MMIO) device(&slot->reqs.mmio_request);
    else if (slot->type != ACRN_IOREQ_TYPE_PORTIO || pio->address != AGENT_PORT) die("the guest took an exception or used another port");
    else if (pio->direction == ACRN_IOREQ_DIR_READ) {
      if (count == 0) return;
      pio->value = *args++;
      count--;
    }
    finish();
  }
}

static void command(const uint32_t *args, uint32_t count) {
  slot->reqs.pio_request.value = opcode;
  finish();
  pump(args, count);
}

static void boot(const char *path) {
  hsm = (int)must(open("/dev/acrn_hsm", O_RDWR | O_CLOEXEC), "/dev/acrn_hsm");
  slot = shared(PAGE);
  ram = shared(RAM_SIZE);
  FILE *image = fopen(path, "re");
  if (image == NULL || fread(ram + AGENT_GPA, 1, PAGE, image) == 0) die("%s cannot be read", path);
  fclose(image);
  struct acrn_vm_creation creation = {.ioreq_buf = (uintptr_t)slot};
  must(ioctl(hsm, ACRN_IOCTL_CREATE_VM, &creation), "CREATE_VM");
  finished.vmid = creation.vmid;
  struct acrn_vm_memmap map = {.type = ACRN_MEMMAP_RAM, .attr = ACRN_MEM_ACCESS_RWX, .vma_base = (uintptr_t)ram, .len = RAM_SIZE};
  must(ioctl(hsm, ACRN_IOCTL_SET_MEMSEG, &map), "SET_MEMSEG");
  must(ioctl(hsm, ACRN_IOCTL_CREATE_IOREQ_CLIENT, 0), "CREATE_IOREQ_CLIENT");
  struct acrn_vcpu_regs vcpu = {.vcpu_regs = {.gdt.limit = 0xffff, .idt.limit = 0x3ff, .cs_base = AGENT_GPA, .cr0 = 0x30, .rflags = 2}};
  vcpu.vcpu_regs.cs_ar = 0x9b;
  vcpu.vcpu_regs.cs_limit = 0xffff;
  vcpu.vcpu_regs.cs_sel = AGENT_GPA >> 4;
  must(ioctl(hsm, ACRN_IOCTL_SET_VCPU_REGS, &vcpu), "SET_VCPU_REGS");
  must(ioctl(hsm, ACRN_IOCTL_START_VM, 0), "START_VM");
  pump(NULL, 0);
}

static uint64_t sample_exits(uint32_t count) {
  const uint32_t args[] = {BAR + REGISTER, count, 0x12345678};
  uint32_t before = accesses;
  uint64_t start = now_ns();
  command(args, opcode == AGENT_BURST_READ32 ? 2 : 3);
  uint64_t ns = now_ns() - start;
  if (accesses - before != count) die("%u of %u accesses arrived", accesses - before, count);
  return ns;
}

static __attribute__((noinline)) void inject_msi(uint32_t address, uint32_t data) {
  struct acrn_msi_entry msi = {.msi_addr = address, .msi_data = data};
  must(ioctl(hsm, ACRN_IOCTL_INJECT_MSI, &msi), "INJECT_MSI");
}

static uint64_t sample_msi(uint32_t count) {
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < count; i++) inject_msi(MSI_ADDRESS, MSI_VECTOR);
  return now_ns() - start;
}

int main(int argc, char **argv) {
  int exits = argc == 4 && strcmp(argv[1], "exits") == 0;
  if (!exits && (argc != 3 || strcmp(argv[1], "msi") != 0)) die("usage: acrn exits mmio-read|mmio-write IMAGE | acrn msi IMAGE");
  opcode = exits && strcmp(argv[2], "mmio-read") == 0 ? AGENT_BURST_READ32 : AGENT_BURST_WRITE32;
  boot(argv[argc - 1]);
  serve(exits ? sample_exits : sample_msi);
  return 0;
}
