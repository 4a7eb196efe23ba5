/* SPDX-License-Identifier: MIT */

/* What `finack probe` was asked to do. */

#ifndef TOOL_OPTIONS_H
#define TOOL_OPTIONS_H

#include "common/arguments.h"

#include <finack.h>
#include <stdbool.h>
#include <stdint.h>

#define PROBE_COUNT_MAX 100000

struct probe_options {
    char host[256]; /* "": the embedded peers */
    char port[6];
    bool tls, insecure, json;
    const char *sni;     /* NULL: the host */
    const char *ca_file; /* NULL: the system's trust store */
    const char *send_file;
    const char *http_path;
    const char *html_file; /* NULL: no page */
    uint64_t count;
    int32_t connect_ms;
    struct fin_policy policy;
};

int options_parse(int argc, char **argv, struct probe_options *o);

#endif
