/* Devices, descriptors, request numbers; the order of calls; what is in structures. */
#define _GNU_SOURCE
#include "cases.h"
#include "tap.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const uint8_t HALT[] = {0xf4, 0xeb, 0xfd};

void check_devices(const char *abi) {
  struct machine machine;
  bool hsm = strcmp(abi, "hsm") == 0;
  check(open(hsm ? "/dev/acrn_vhm" : "/dev/acrn_hsm", O_RDWR) < 0 && errno == ENOENT, "the other device is not there");
  check(access(hsm ? "/dev/acrn_hsm" : "/dev/acrn_vhm", F_OK) == 0, "the device is there for access()");
  machine_open(&machine, abi, RAM);
  check(fcntl(machine.fd, F_GETFD) == FD_CLOEXEC, "O_CLOEXEC is kept");
  long no_vm = hsm ? -EINVAL : -EFAULT, unknown = hsm ? 0xA2FF : IC(0xff);
  gives(machine_start(&machine), no_vm, "START_VM without a VM");
  gives(machine_attach(&machine), no_vm, "ATTACH without a VM");
  gives(machine_ioctl(&machine, (unsigned long)unknown, 0), no_vm, "an unknown request without a VM");
  machine_create(&machine);
  gives(machine_ioctl(&machine, (unsigned long)unknown, 0), hsm ? -ENOTTY : 0, "an unknown request");
  // The size is a part of an HSM's number.
  if (hsm) gives(machine_ioctl(&machine, _IOW(ACRN_IOCTL_TYPE, 0x23, char[8]), (uintptr_t)&machine), -ENOTTY, "INJECT_MSI with another size");
  struct vhm_api_version version = {0};
  if (!hsm) {
    gives(machine_ioctl(&machine, IC_GET_API_VERSION, (uintptr_t)&version), 0, "GET_API_VERSION");
    check(version.major == 1 && version.minor == 0, "the version is 1.0");
    gives(machine_ioctl(&machine, IC_GET_API_VERSION, 1), -EFAULT, "GET_API_VERSION to a bad pointer");
  }
  int fd = machine.fd;
  machine_close(&machine);
  machine.fd = fd;
  gives(machine_destroy(&machine), -EBADF, "an ioctl after close");
}

static void check_identity(const char *abi) {
  struct machine one, two;
  machine_open(&one, abi, RAM);
  machine_open(&two, abi, RAM);
  strcpy(one.identity, "POST_STD_VM1");
  strcpy(two.identity, "POST_STD_VM1");
  gives(machine_create(&one), 0, "a VM of the scenario");
  gives(machine_create(&two), two.hsm ? -EINVAL : -EFAULT, "the same once more");
  strcpy(two.identity, "POST_STD_VM2");
  gives(machine_create(&two), 0, "another one");
  machine_end(&one);
  machine_end(&two);
}

void check_states(const char *abi) {
  struct machine machine, other;
  boot(&machine, abi, HALT, sizeof HALT);
  bool hsm = machine.hsm;
  boot(&other, abi, HALT, sizeof HALT);
  check(machine.vmid > 0 && other.vmid > 0 && machine.vmid != other.vmid, "two VMs have two ids, none of them the service VM's");
  machine_end(&other);
  check_identity(abi);
  gives(machine_create(&machine), hsm ? -EINVAL : -EFAULT, "a second VM on one descriptor");
  gives(machine_reset(&machine), REFUSED(&machine), "RESET_VM of a VM that is not paused");
  gives(machine_start(&machine), 0, "START_VM");
  gives(machine_start(&machine), REFUSED(&machine), "START_VM of a started VM");
  struct acrn_vcpu_regs regs = real_mode(0, 0x1000);
  gives(machine_set_regs(&machine, &regs), REFUSED(&machine), "SET_VCPU_REGS of a started VM");
  gives(machine_pause(&machine), 0, "PAUSE_VM");
  gives(machine_start(&machine), REFUSED(&machine), "START_VM of a paused VM");
  gives(machine_reset(&machine), 0, "RESET_VM of a paused VM");
  gives(machine_set_regs(&machine, &regs), 0, "SET_VCPU_REGS after that");
  gives(machine_start(&machine), 0, "START_VM after that");
  gives(machine_destroy(&machine), 0, "DESTROY_VM of a started VM");
  gives(machine_destroy(&machine), hsm ? -EINVAL : -EFAULT, "DESTROY_VM of a destroyed one");
  gives(machine_create(&machine), hsm ? -EINVAL : -EFAULT, "CREATE_VM on a descriptor whose VM is destroyed");
  machine_close(&machine);
}

static void structures_of_hsm(struct machine *machine) {
  struct acrn_vm_creation creation = {.ioreq_buf = (uintptr_t)machine->slots, .reserved0 = 1};
  gives(machine_ioctl(machine, ACRN_IOCTL_CREATE_VM, (uintptr_t)&creation), -EINVAL, "CREATE_VM with reserved0");
  creation = (struct acrn_vm_creation){.ioreq_buf = (uintptr_t)machine->slots, .reserved1 = 1};
  gives(machine_ioctl(machine, ACRN_IOCTL_CREATE_VM, (uintptr_t)&creation), -EINVAL, "CREATE_VM with reserved1");
  creation = (struct acrn_vm_creation){0};
  gives(machine_ioctl(machine, ACRN_IOCTL_CREATE_VM, (uintptr_t)&creation), -EINVAL, "CREATE_VM without a request page");
  gives(machine_create(machine), 0, "CREATE_VM after these");
  struct acrn_ioreq_notify notify = {.reserved = 1};
  gives(machine_ioctl(machine, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, (uintptr_t)&notify), -EINVAL, "NOTIFY with reserved");
  struct acrn_ioeventfd eventfd = {.reserved = 1};
  gives(machine_ioctl(machine, ACRN_IOCTL_IOEVENTFD, (uintptr_t)&eventfd), -EINVAL, "IOEVENTFD with reserved");
  struct acrn_vcpu_regs regs = real_mode(0, 0x1000);
  regs.reserved[2] = 1;
  gives(machine_set_regs(machine, &regs), -EINVAL, "SET_VCPU_REGS with reserved");
  regs = real_mode(0, 0x1000);
  regs.vcpu_regs.reserved_64[3] = 1;
  gives(machine_set_regs(machine, &regs), -EINVAL, "SET_VCPU_REGS with reserved_64");
  regs = real_mode(0, 0x1000);
  regs.vcpu_regs.idt.reserved[0] = 1;
  gives(machine_set_regs(machine, &regs), -EINVAL, "SET_VCPU_REGS with a descriptor's reserved");
}

static void structures_of_vhm(struct machine *machine) {
  struct vhm_create_vm creation = {0};
  gives(machine_ioctl(machine, IC_CREATE_VM, (uintptr_t)&creation), 0, "CREATE_VM without a request page");
  machine->vcpus = creation.vcpu_num;
  gives(machine_create_client(machine), -EFAULT, "CREATE_IOREQ_CLIENT without a request page");
  gives(machine_start(machine), -EFAULT, "START_VM without a request page");
  gives(machine_ioctl(machine, IC_SET_IOREQ_BUFFER, 0), -ENOMEM, "SET_IOREQ_BUFFER of no page");
  gives(machine_ioctl(machine, IC_SET_IOREQ_BUFFER, (uintptr_t)machine->slots), 0, "SET_IOREQ_BUFFER");
  gives(machine_ioctl(machine, IC_SET_IOREQ_BUFFER, (uintptr_t)machine->slots), 0, "SET_IOREQ_BUFFER again");
  struct vhm_create_vcpu vcpu = {.vcpu_id = 0};
  gives(machine_ioctl(machine, IC_CREATE_VCPU, (uintptr_t)&vcpu), 0, "CREATE_VCPU of one that is there");
  vcpu.vcpu_id = 1;
  gives(machine_ioctl(machine, IC_CREATE_VCPU, (uintptr_t)&vcpu), 0, "CREATE_VCPU of the next");
  vcpu.vcpu_id = 7;
  gives(machine_ioctl(machine, IC_CREATE_VCPU, (uintptr_t)&vcpu), -EFAULT, "CREATE_VCPU with a gap");
}

void check_structures(const char *abi) {
  struct machine machine;
  machine_open(&machine, abi, RAM);
  gives(machine_ioctl(&machine, machine.hsm ? ACRN_IOCTL_CREATE_VM : IC_CREATE_VM, 8), -EFAULT, "CREATE_VM from a bad pointer");
  if (machine.hsm) structures_of_hsm(&machine);
  else structures_of_vhm(&machine);
  gives(machine_ioctl(&machine, machine.hsm ? ACRN_IOCTL_INJECT_MSI : IC_INJECT_MSI, 8), -EFAULT, "INJECT_MSI from a bad pointer");
  gives(machine_ioctl(&machine, machine.hsm ? ACRN_IOCTL_SET_MEMSEG : IC_SET_MEMSEG, 8), -EFAULT, "SET_MEMSEG from a bad pointer");
  struct acrn_vcpu_regs regs = real_mode(9, 0x1000);
  gives(machine_set_regs(&machine, &regs), REFUSED(&machine), "SET_VCPU_REGS of a vCPU that is not there");
  machine_create_client(&machine);
  gives(machine_finish(&machine, 16), machine.hsm ? -EINVAL : -EFAULT, "NOTIFY for a vCPU that is not there");
  machine_end(&machine);
}
