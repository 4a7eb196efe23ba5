/* SPDX-License-Identifier: MIT */

#include "result.h"

#include <string.h>

const char *error_name(int error)
{
    const char *name = error ? strerrorname_np(error < 0 ? -error : error) : NULL;

    return name || !error ? name : "unknown";
}
