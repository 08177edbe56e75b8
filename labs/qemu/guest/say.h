/* What guest programs say to the lab, and how they give up. */
#ifndef SAY_H
#define SAY_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program: what failed, with the system's reason. 'lab:' makes it the reason of the verdict. */
#define give_up(...)                                                                                                                   \
	do {                                                                                                                           \
		int reason = errno;                                                                                                    \
		printf("lab: ");                                                                                                       \
		printf(__VA_ARGS__);                                                                                                   \
		printf(": %s\n", reason ? strerror(reason) : "wrong");                                                                 \
		exit(1);                                                                                                               \
	} while (0)

#endif
