/*
 * reader PATH -- SERVER...: starts a server that mounts a tree, in whose arguments MOUNT stands for the folder and RUN for another one of its
 * own, and measures how long it takes to open, read and close a file of it. A count is a number of files read.
 */
#include "../subject.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 20000, STEP_MS = 10 };

static char folder[] = "/tmp/mpt-bench-XXXXXX", mount_point[64], run_folder[64], file[256];
static pid_t server;

static void end_server(void) {
  if (server > 0) {
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    server = 0;
  }
  char lock[96];
  snprintf(lock, sizeof lock, "%s/daemon.lock", run_folder);
  unlink(lock);
  rmdir(run_folder);
  rmdir(mount_point);
  rmdir(folder);
}

static void interrupted(int signal) {
  (void)signal;
  end_server();
  _exit(1);
}

static void start_server(char **command) {
  if (mkdtemp(folder) == NULL) die("no folder for the mount");
  snprintf(mount_point, sizeof mount_point, "%s/sys", folder);
  snprintf(run_folder, sizeof run_folder, "%s/run", folder);
  if (mkdir(mount_point, 0755) != 0 || mkdir(run_folder, 0755) != 0) die("no folder for the mount");
  atexit(end_server);
  signal(SIGTERM, interrupted);
  for (char **argument = command; *argument != NULL; argument++) {
    if (strcmp(*argument, "MOUNT") == 0) *argument = mount_point;
    if (strcmp(*argument, "RUN") == 0) *argument = run_folder;
  }
  server = fork();
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    /* Its stdout is not ours, whose lines are answers; ours on stdin are not for it. */
    if (freopen("/dev/null", "r", stdin) == NULL || freopen("/dev/null", "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL) _exit(127);
    execvp(command[0], command);
    _exit(127);
  }
}

static int read_file(void) {
  char text[4096];
  int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t got = read(fd, text, sizeof text);
  close(fd);
  return got > 0 ? 0 : -1;
}

static uint64_t sample(uint32_t count) {
  uint64_t begin = now_ns();
  for (uint32_t i = 0; i < count; i++)
    if (read_file() != 0) die("%s cannot be read", file);
  return now_ns() - begin;
}

int main(int argc, char **argv) {
  if (argc < 4 || strcmp(argv[2], "--") != 0) die("usage: reader PATH -- SERVER...");
  start_server(argv + 3);
  snprintf(file, sizeof file, "%s/%s", mount_point, argv[1]);
  for (int waited = 0; read_file() != 0; waited += STEP_MS) {
    if (waited > START_MS || waitpid(server, NULL, WNOHANG) != 0) die("the server has no %s", argv[1]);
    usleep(STEP_MS * 1000);
  }
  serve(sample);
  return 0;
}
