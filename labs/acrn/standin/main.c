/* standin: runs a program on a machine that seems to have ACRN's char devices. */
#include "standin.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/** How long the program's own children may outlive it. */
#define GRACE_S 5

struct options options = {.vcpus = 1};
int kvm_system = -1;
static pid_t child;

void die(const char *what) {
  fprintf(stderr, "standin: %s: %s\n", what, strerror(errno));
  exit(126);
}

static void usage(FILE *out) {
  fputs("usage: standin [OPTIONS] -- COMMAND...\n"
        "Runs COMMAND on a machine with ACRN's char devices, played by this program over /dev/kvm. Needs root.\n\n"
        "  --abi hsm|vhm|both|none  which devices are there: /dev/acrn_hsm, /dev/acrn_vhm (default both)\n"
        "  --vcpus N                vCPUs of a VM whose creator names no CPUs, 1 to 16 (default 1)\n"
        "  --polling                requests ask for completion by polling\n"
        "  --fault LINE             a command for the control device, given at the start (may be repeated)\n"
        "  --report FILE            write what is left at the end to FILE, as JSON\n"
        "  --verbose                tell each ioctl on stderr\n\n"
        "COMMAND can open /dev/acrn_standin, write a line and read one: state, fail NAME ERRNO [NTH [TIMES]],\n"
        "forge FIELD=VALUE..., clear. README.md tells more.\n\n"
        "Example: standin --abi hsm -- node build/src/cli/mpt.js backends\n"
        "Exit code: that of COMMAND, 128 + N when signal N ended it; 2 wrong usage, 126 no stand-in, 127 no COMMAND.\n",
        out);
}

static void wrong(const char *what) {
  fprintf(stderr, "standin: %s (see standin --help)\n", what);
  exit(2);
}

static void choose_abi(const char *name) {
  bool both = strcmp(name, "both") == 0;
  options.hsm = both || strcmp(name, "hsm") == 0;
  options.vhm = both || strcmp(name, "vhm") == 0;
  if (!options.hsm && !options.vhm && strcmp(name, "none") != 0) wrong("--abi is hsm, vhm, both or none");
}

static void parse(int count, char **arguments) {
  enum { ABI = 1, VCPUS, POLLING_MODE, FAULT, REPORT, VERBOSE, HELP };
  static const struct option known[] = {
      {"abi", required_argument, NULL, ABI},       {"vcpus", required_argument, NULL, VCPUS}, {"polling", no_argument, NULL, POLLING_MODE},
      {"fault", required_argument, NULL, FAULT},   {"report", required_argument, NULL, REPORT}, {"verbose", no_argument, NULL, VERBOSE},
      {"help", no_argument, NULL, HELP},           {0}};
  options.hsm = options.vhm = true;
  for (int option; (option = getopt_long(count, arguments, "+", known, NULL)) != -1;) switch (option) {
      case ABI:
        choose_abi(optarg);
        break;
      case VCPUS:
        options.vcpus = (unsigned)atoi(optarg);
        if (options.vcpus < 1 || options.vcpus > REQUEST_SLOTS) wrong("--vcpus is 1 to 16");
        break;
      case POLLING_MODE:
        options.polling = true;
        break;
      case FAULT: {
        const char *problem = fault_command(optarg);
        if (problem != NULL) wrong(problem);
        break;
      }
      case REPORT:
        options.report = optarg;
        break;
      case VERBOSE:
        options.verbose = true;
        break;
      case HELP:
        usage(stdout);
        exit(0);
      default:
        exit(2);
    }
  if (optind >= count) wrong("a COMMAND is missing");
}

/** The terminal's Ctrl-C reaches the program itself; what is sent to us alone is passed on. */
static void pass_on(int signal) {
  if (child > 0) kill(child, signal);
}

static void *serve(void *unused) {
  (void)unused;
  serve_calls();
  return NULL;
}

static void await_end_of_calls(pthread_t server) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += GRACE_S;
  if (pthread_timedjoin_np(server, NULL, &until) == 0) report_thread_ended();
  else fputs("standin: processes of the program still run, without the devices from now on\n", stderr);
}

/** Hang-ups of the last files may be on their way. */
static void await_release(void) {
  for (int i = 0; i < 200; i++) {
    pthread_mutex_lock(&files_lock);
    bool left = files != NULL;
    pthread_mutex_unlock(&files_lock);
    if (!left) return;
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
}

static void write_report(void) {
  FILE *out = fopen(options.report, "we");
  if (out == NULL) die(options.report);
  pthread_mutex_lock(&files_lock);
  // The report itself is open.
  controls++;
  report_state(out);
  controls--;
  pthread_mutex_unlock(&files_lock);
  fclose(out);
}

int main(int count, char **arguments) {
  parse(count, arguments);
  kvm_system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm_system < 0) die("/dev/kvm");
  vcpu_init_signals();
  // Mapping the client's memory goes through files of /proc that are root's.
  if (geteuid() != 0) wrong("only root may look into the memory of another process");
  if (options.hsm || options.vhm) setenv("ACRN_STANDIN", options.hsm && options.vhm ? "both" : options.hsm ? "hsm" : "vhm", 1);
  else setenv("ACRN_STANDIN", "none", 1);
  if (spawn_filtered(arguments + optind, &child) < 0) {
    fputs("standin: this kernel has no seccomp user notification\n", stderr);
    return 126;
  }
  struct rlimit files_limit;
  getrlimit(RLIMIT_NOFILE, &files_limit);
  files_limit.rlim_cur = files_limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files_limit);
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, pass_on);
  signal(SIGHUP, pass_on);
  signal(SIGPIPE, SIG_IGN);
  pthread_t server;
  watch_start();
  if (pthread_create(&server, NULL, serve, NULL) != 0) die("the serving thread");
  report_baseline();
  start_child();
  int status;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  await_end_of_calls(server);
  await_release();
  if (options.report != NULL) write_report();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
