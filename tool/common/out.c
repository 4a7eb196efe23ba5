/* SPDX-License-Identifier: MIT */

#include "common/out.h"

#include "common/say.h"

#include <errno.h>

/* A failure is reported at the end; output after it is dropped. */
static ssize_t out_write(void *cookie, const char *text, size_t size)
{
    struct out *out = cookie;

    if (out->result == 0)
        out->result = write_all(out->fd, text, size);
    return (ssize_t) size;
}

int out_open(struct out *out, int fd)
{
    out->fd = fd;
    out->result = 0;
    out->file = fopencookie(out, "w", (cookie_io_functions_t) { .write = out_write });
    if (!out->file)
        return -ENOMEM;
    setvbuf(out->file, out->buffer, _IOFBF, sizeof out->buffer);
    return 0;
}

int out_close(struct out *out)
{
    fclose(out->file);
    return out->result;
}
