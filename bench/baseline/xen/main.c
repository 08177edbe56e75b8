/* The C side of a row: xen SUBJECT ARGUMENT... */
#include "../subject.h"
#include "domain.h"
#include "subjects.h"
#include <string.h>

#define ARGUMENTS_MAX 2

static const struct {
  const char *name;
  sample_fn *(*prepare)(char **args);
  int arguments;
} subjects[] = {
    {"exits", exits, 2}, {"copies", copies, 2}, {"page-track", page_track, 0}, {"msi", msi, 1}, {"dma", dma, 0}, {"create", create, 0},
};

int main(int argc, char **argv) {
  for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++)
    if (argc == subjects[i].arguments + 2 && strcmp(argv[1], subjects[i].name) == 0) {
      xen_open();
      serve(subjects[i].prepare(argv + 2));
      return 0;
    }
  die("usage: xen exits mmio-read|mmio-write IMAGE | copies read LENGTH | page-track | msi IMAGE | dma | create");
}
