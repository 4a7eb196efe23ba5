/* SPDX-License-Identifier: MIT */

#ifndef FIN_ERRORS_H
#define FIN_ERRORS_H

#include <stdbool.h>

/* What errno.h calls an error, such as "ECONNRESET"; NULL for a number that it has no name for. */
const char *fin__error_name(int error);

/* Does a negative errno say that there is no descriptor left, or no memory? What that keeps from us
 * is an error while there is time to act on it; what this system does not have is not. */
bool fin__is_lack(int result);

#endif
