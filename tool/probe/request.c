/* SPDX-License-Identifier: MIT */

#include "probe/request.h"

#include "common/say.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pipes have no size: read until the end. */
static int read_all(FILE *file, struct request *r)
{
    size_t room = 65536, n;

    do {
        char *bigger = realloc(r->data, room);

        if (!bigger)
            return -ENOMEM;
        r->data = bigger;
        n = fread(r->data + r->size, 1, room - r->size, file);
        r->size += n;
        if (r->size > REQUEST_MAX)
            return -EFBIG;
        if (r->size == room)
            room *= 2;
    } while (n > 0);
    return ferror(file) ? -errno : 0;
}

static int load(const char *name, struct request *r)
{
    FILE *file = fopen(name, "re");
    int error = file ? read_all(file, r) : -errno;

    if (file)
        fclose(file);
    if (error == -EFBIG)
        return complain("--send '%s' is longer than 64 MiB", name);
    if (error < 0)
        return complain("cannot read --send '%s': %s", name, strerror(-error));
    return 0;
}

static int compose(const struct probe_options *o, struct request *r)
{
    const char *name = o->sni ? o->sni : o->host;
    bool v6 = strchr(name, ':');
    int n = asprintf(&r->data,
                     "GET %s HTTP/1.1\r\nHost: %s%s%s:%s\r\nUser-Agent: finack/%s\r\n"
                     "Accept: */*\r\nConnection: keep-alive\r\n\r\n",
                     o->http_path, v6 ? "[" : "", name, v6 ? "]" : "", o->port, fin_version());

    if (n < 0) {
        r->data = NULL;
        return complain("out of memory");
    }
    r->size = (size_t) n;
    r->answered = true;
    return 0;
}

int request_make(const struct probe_options *o, struct request *r)
{
    int status = 0;

    *r = (struct request) { 0 };
    if (o->send_file)
        status = load(o->send_file, r);
    else if (o->http_path)
        status = compose(o, r);
    if (status)
        request_free(r);
    return status;
}

void request_free(struct request *r)
{
    free(r->data);
    *r = (struct request) { 0 };
}
