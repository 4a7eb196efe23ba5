/* SPDX-License-Identifier: MIT */

#ifndef FIN_IDENTITY_H
#define FIN_IDENTITY_H

#include <finack.h>

/* SO_COOKIE of a socket, 0 for anything else and on kernels that have none. */
uint64_t fin__cookie(int fd);

#endif
