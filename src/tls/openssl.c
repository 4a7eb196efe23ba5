/* SPDX-License-Identifier: MIT */

#include "tls/layer.h"

#include "base/cancel.h"

int fin_close_ssl(struct fin_kernel *kernel, SSL *ssl, const struct fin_ssl_write *unfinished,
                  const struct fin_policy *policy, struct fin_receipt *receipt)
{
    FIN__UNCANCELLED;
    struct fin__ssl *tls;
    int fd, r;

    r = fin__ssl_attach(ssl, unfinished, &tls, &fd);
    if (r < 0)
        return r;
    r = fin_close_layered(kernel, fd, fin__ssl_layer(tls), policy, receipt);
    fin__ssl_detach(tls, r >= 0);
    return r;
}
