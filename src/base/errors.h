/* SPDX-License-Identifier: MIT */

#ifndef FIN_ERRORS_H
#define FIN_ERRORS_H

#include <stdbool.h>

/* What errno.h calls an error, such as "ECONNRESET"; NULL for a number that it has no name for. */
const char *fin__error_name(int error);

/* Does a negative errno mean that there is no free descriptor or no memory? That is reported as
 * an error, since the caller can act on it; a part that this system does not have is not. */
bool fin__is_lack(int result);

#endif
