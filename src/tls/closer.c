/* SPDX-License-Identifier: MIT */

/* TLS connections among the closes of a closer. */

#include "tls/layer.h"

#include "base/cancel.h"

#include <errno.h>
#include <stdlib.h>

struct pending {
    struct fin__ssl *tls;
    fin_closed_fn closed;
    void *arg;
};

/* The session is the program's again before its completion runs, which may free it. */
static void done(const struct fin_receipt *receipt, void *arg)
{
    struct pending pending = *(struct pending *) arg;

    free(arg);
    (void) fin__ssl_detach(pending.tls, true);
    if (pending.closed)
        pending.closed(receipt, pending.arg);
}

int fin_closer_submit_ssl(struct fin_closer *closer, SSL *ssl,
                          const struct fin_ssl_write *unfinished, const struct fin_policy *policy,
                          fin_closed_fn closed, void *arg, uint64_t *op)
{
    FIN__UNCANCELLED;
    struct pending *pending = malloc(sizeof *pending);
    int fd, result;

    if (!pending)
        return -ENOMEM;
    pending->closed = closed;
    pending->arg = arg;
    result = fin__ssl_attach(ssl, unfinished, &pending->tls, &fd);
    if (result < 0) {
        free(pending);
        return result;
    }
    result = fin_closer_submit_layered(closer, fd, fin__ssl_layer(pending->tls), policy, done,
                                       pending, op);
    if (result < 0) {
        (void) fin__ssl_detach(pending->tls, false);
        free(pending);
    }
    return result;
}
