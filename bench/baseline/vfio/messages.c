#include "messages.h"
#include "../subject.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void send_all(int fd, const void *data, size_t length) {
  ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
  if (sent != (ssize_t)length) die("a message could not be sent: %s", sent < 0 ? strerror(errno) : "not whole");
}

void receive_all(int fd, void *data, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t got = recv(fd, (char *)data + done, length - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) die("the other side is gone: %s", got < 0 ? strerror(errno) : "end of the stream");
    done += (size_t)got;
  }
}
