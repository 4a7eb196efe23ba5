/* SPDX-License-Identifier: MIT */

#include "tls/bio.h"

#include "base/again.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/socket.h>

struct fin__wire *fin__wire_of(BIO *bio)
{
    return BIO_get_data(bio);
}

void fin__wire_begin(BIO *bio)
{
    struct fin__wire *wire = fin__wire_of(bio);

    BIO_clear_retry_flags(bio);
    wire->error = 0;
    wire->eof = false;
}

/* OpenSSL looks at errno too when a BIO fails without a retry flag. */
static int bio_fail(struct fin__wire *wire, int error)
{
    wire->error = error;
    errno = error;
    return -1;
}

static int wire_write(BIO *bio, const char *buf, int len)
{
    struct fin__wire *wire = fin__wire_of(bio);
    int tries = 0;
    ssize_t n;

    BIO_clear_retry_flags(bio);
    if (wire->fd < 0)
        return bio_fail(wire, ENOTCONN);
    wire->sends++;
    if (wire->muted || len <= 0)
        return len;
    do
        n = send(wire->fd, buf, (size_t) len, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (fin__again(n, &tries));
    if (n >= 0) {
        wire->bytes += (uint64_t) n;
        return (int) n;
    }
    if (!fin__is_nothing(errno))
        return bio_fail(wire, errno);
    BIO_set_retry_write(bio);
    return -1;
}

static int wire_read(BIO *bio, char *buf, int len)
{
    struct fin__wire *wire = fin__wire_of(bio);
    int tries = 0;
    ssize_t n;

    BIO_clear_retry_flags(bio);
    if (wire->fd < 0)
        return bio_fail(wire, ENOTCONN);
    if (len <= 0)
        return 0;
    do
        n = recv(wire->fd, buf, (size_t) len, MSG_DONTWAIT);
    while (fin__again(n, &tries));
    if (n > 0)
        return (int) n;
    if (n == 0) {
        wire->eof = true;
        return 0;
    }
    if (!fin__is_nothing(errno))
        return bio_fail(wire, errno);
    BIO_set_retry_read(bio);
    return -1;
}

static long get_fd(const struct fin__wire *wire, int *ret)
{
    if (ret)
        *ret = wire->fd;
    return wire->fd;
}

static long wire_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    const struct fin__wire *wire = fin__wire_of(bio);

    (void) num;
    switch (cmd) {
    case BIO_CTRL_EOF:
        return wire->eof;
    case BIO_C_GET_FD:
        return get_fd(wire, ptr);
    case BIO_CTRL_GET_CLOSE:
        return BIO_NOCLOSE;
    case BIO_CTRL_FLUSH:
        return 1;
    default:
        return 0;
    }
}

static int wire_destroy(BIO *bio)
{
    OPENSSL_free(fin__wire_of(bio));
    BIO_set_data(bio, NULL);
    return 1;
}

static BIO_METHOD *method_new(void)
{
    BIO_METHOD *method;

    /* No index of its own: nobody looks for it, and BIO_get_new_index() fails for ever if it ever
     * lacked memory. */
    method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "closing socket");
    if (!method)
        return NULL;
    BIO_meth_set_write(method, wire_write);
    BIO_meth_set_read(method, wire_read);
    BIO_meth_set_ctrl(method, wire_ctrl);
    BIO_meth_set_destroy(method, wire_destroy);
    return method;
}

/* Made once and never freed: a session that was closed keeps its BIO until the program frees it,
 * which may be as late as in a destructor. */
static const BIO_METHOD *method_get(void)
{
    static _Atomic(BIO_METHOD *) shared;
    BIO_METHOD *method = atomic_load(&shared), *other = NULL;

    if (method)
        return method;
    method = method_new();
    if (!method || atomic_compare_exchange_strong(&shared, &other, method))
        return method;
    BIO_meth_free(method);
    return other;
}

int fin__wire_new(int fd, BIO **ret)
{
    const BIO_METHOD *method = method_get();
    struct fin__wire *wire;
    BIO *bio;

    if (!method)
        return -ENOMEM;
    bio = BIO_new(method);
    if (!bio)
        return -ENOMEM;
    wire = OPENSSL_zalloc(sizeof *wire);
    if (!wire) {
        BIO_free(bio);
        return -ENOMEM;
    }
    wire->fd = fd;
    BIO_set_data(bio, wire);
    BIO_set_init(bio, 1);
    *ret = bio;
    return 0;
}
