/* SPDX-License-Identifier: MIT */

#include "tls/layer.h"

#include "base/again.h"
#include "tls/bio.h"
#include "tls/errors.h"
#include "tls/quic.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

/* How many records are written at once: a peer that reads for ever must not keep us from the
 * deadline. */
#define BURST 64

struct old_bio {
    BIO *bio;
    int close;
};

struct fin__ssl {
    struct fin_layer layer;
    SSL *ssl;
    BIO *bio; /* the session's */
    struct fin__wire *wire;
    struct old_bio rbio, wbio;
    uint64_t options;
    long mode;
    int quiet, shutdown;
    const unsigned char *next; /* of the unfinished write */
    size_t left;
    bool raw; /* the session can't read any more: read what comes, unread by TLS */
    unsigned char scratch[SSL3_RT_MAX_PLAIN_LENGTH];
};

/* Why the session could not go on: the BIO knows more exactly than SSL_get_error(). */
static int why(const struct fin__ssl *tls)
{
    if (tls->wire->error)
        return -tls->wire->error;
    if (tls->wire->eof)
        return FIN_LAYER_EOF;
    if (BIO_should_read(tls->bio))
        return FIN_LAYER_WANT_READ;
    if (BIO_should_write(tls->bio))
        return FIN_LAYER_WANT_WRITE;
    return FIN_LAYER_BROKEN;
}

/* ---- flush ---- */

/* An empty send shows whether the connection has ended or the session is stuck. */
static int lost(const struct fin__ssl *tls)
{
    ssize_t n = send(tls->wire->fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL);

    return n < 0 && (errno == EPIPE || errno == ECONNRESET) ? -errno : FIN_LAYER_BROKEN;
}

/* In a handshake what is half written is not the program's; after SSL_shutdown() it may be the
 * alert, and notify finds out. If the program has read since, OpenSSL no longer shows the
 * unfinished write here; notify finds it. */
static bool is_write_missing(SSL *ssl)
{
    return SSL_want_write(ssl) && !SSL_in_init(ssl) && !(SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN);
}

/* The session met a fatal error, such as the peer's FIN without close_notify: it sends nothing
 * more. */
static bool is_dead(const SSL *ssl)
{
    return strcmp(SSL_state_string(ssl), "SSLERR") == 0;
}

/* A half-done write that we were not given only prevents another write; nothing else shows it
 * without sending. SSL_write_ex() of 0 bytes sends nothing, and fails because of its length
 * then, on a dead session too. After SSL_shutdown() it must not fail because of that. */
static bool is_write_pending(SSL *ssl)
{
    struct fin__errors errors;
    int shutdown = SSL_get_shutdown(ssl);
    bool pending;
    size_t n;

    if (!is_dead(ssl) && SSL_in_init(ssl))
        return false;
    fin__errors_save(&errors);
    SSL_set_shutdown(ssl, 0);
    pending =
        SSL_write_ex(ssl, "", 0, &n) <= 0 && ERR_GET_REASON(ERR_peek_error()) == SSL_R_BAD_LENGTH;
    SSL_set_shutdown(ssl, shutdown);
    fin__errors_restore(&errors);
    return pending;
}

static bool is_write_lost(SSL *ssl)
{
    return is_dead(ssl) ? is_write_pending(ssl) : is_write_missing(ssl);
}

static int layer_flush(struct fin__ssl *tls)
{
    if (!tls->left)
        return is_write_lost(tls->ssl) ? lost(tls) : FIN_LAYER_DONE;
    for (int i = 0; i < BURST && tls->left; i++) {
        size_t n = 0;

        fin__wire_begin(tls->bio);
        if (SSL_write_ex(tls->ssl, tls->next, tls->left, &n) <= 0) {
            int r = why(tls);

            return r == FIN_LAYER_EOF ? FIN_LAYER_BROKEN : r;
        }
        tls->next += n;
        tls->left -= n;
    }
    return tls->left ? FIN_LAYER_WANT_WRITE : FIN_LAYER_DONE;
}

static int flush_cb(void *arg, uint64_t *unsent)
{
    struct fin__ssl *tls = arg;
    struct fin__errors errors;
    int r;

    fin__errors_save(&errors);
    r = layer_flush(tls);
    fin__errors_restore(&errors);
    *unsent = tls->left;
    return r;
}

/* Both Finished messages were sent; the session may have died since. */
static bool was_established(const SSL *ssl)
{
    char byte;

    return SSL_get_finished(ssl, &byte, 1) > 0 && SSL_get_peer_finished(ssl, &byte, 1) > 0;
}

static uint64_t unsent_cb(void *arg)
{
    const struct fin__ssl *tls = arg;

    if (!tls->left && SSL_in_init(tls->ssl) && was_established(tls->ssl) && !is_dead(tls->ssl))
        return UINT64_MAX; /* in another handshake it says nothing */
    return tls->left || !is_write_pending(tls->ssl) ? tls->left : UINT64_MAX;
}

/* ---- notify ---- */

/* A KeyUpdate or a session ticket of TLS 1.3 that is still to be sent makes the session refuse
 * SSL_shutdown() as in a handshake, but it takes nothing from the peer to finish. */
static bool is_only_sending(const SSL *ssl)
{
    if (SSL_version(ssl) != TLS1_3_VERSION)
        return false;
    switch (SSL_get_state(ssl)) {
    case TLS_ST_OK:
    case TLS_ST_CW_KEY_UPDATE:
    case TLS_ST_SW_KEY_UPDATE:
    case TLS_ST_SW_SESSION_TICKET:
        return true;
    default:
        return false;
    }
}

static int leave_handshake(struct fin__ssl *tls)
{
    int none = was_established(tls->ssl) ? FIN_LAYER_DEAD : FIN_LAYER_NONE, r;

    if (!SSL_in_init(tls->ssl))
        return FIN_LAYER_DONE;
    if (!is_only_sending(tls->ssl))
        return none;
    fin__wire_begin(tls->bio);
    if (SSL_do_handshake(tls->ssl) == 1 && !SSL_in_init(tls->ssl))
        return FIN_LAYER_DONE;
    r = why(tls);
    return r == FIN_LAYER_WANT_WRITE || r < 0 ? r : none;
}

/* A second SSL_shutdown() reads the answer, and dies of application data that comes before it.
 * Told that the answer is here it only sends: nothing, if its alert is in the kernel already. */
static int shutdown_sending(SSL *ssl)
{
    int before = SSL_get_shutdown(ssl), r;

    SSL_set_shutdown(ssl, before | SSL_RECEIVED_SHUTDOWN);
    r = SSL_shutdown(ssl);
    SSL_set_shutdown(
        ssl, (SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN) | (before & SSL_RECEIVED_SHUTDOWN));
    return r;
}

static int layer_notify(struct fin__ssl *tls)
{
    int on = 1, r = leave_handshake(tls);
    uint64_t sends = tls->wire->sends;

    if (r != FIN_LAYER_DONE)
        return r;
    /* Else Nagle holds the alert back until the peer's delayed ACK. A Unix socket has no such. */
    setsockopt(tls->wire->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fin__wire_begin(tls->bio);
    r = shutdown_sending(tls->ssl);
    /* A half-written record of the program comes first. Since 3.2 the alert behind it is
     * forgotten. */
    if (tls->wire->sends == sends && (r < 0 || is_write_pending(tls->ssl)))
        return FIN_LAYER_BROKEN;
    if (r >= 0)
        return FIN_LAYER_DONE;
    r = why(tls);
    return r == FIN_LAYER_WANT_WRITE || r < 0 ? r : FIN_LAYER_BROKEN;
}

static int notify_cb(void *arg)
{
    struct fin__ssl *tls = arg;
    struct fin__errors errors;
    int r;

    fin__errors_save(&errors);
    r = layer_notify(tls);
    fin__errors_restore(&errors);
    tls->raw = r == FIN_LAYER_NONE || r == FIN_LAYER_DEAD || r == FIN_LAYER_BROKEN;
    return r;
}

/* ---- read ---- */

static size_t span(const struct fin__ssl *tls, uint64_t max)
{
    return max < sizeof tls->scratch ? (size_t) max : sizeof tls->scratch;
}

static int read_raw(struct fin__ssl *tls, uint64_t max, uint64_t *n)
{
    int tries = 0;
    ssize_t got;

    do
        got = recv(tls->wire->fd, tls->scratch, span(tls, max), MSG_DONTWAIT);
    while (fin__again(got, &tries));
    if (got < 0)
        return fin__is_nothing(errno) ? FIN_LAYER_WANT_READ : -errno;
    if (got == 0)
        return FIN_LAYER_EOF;
    *n = (uint64_t) got;
    return FIN_LAYER_DONE;
}

/* A fatal alert sets the flag of close_notify too, and brings the session back into a handshake. */
static bool is_answered(SSL *ssl)
{
    return SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN && !SSL_in_init(ssl);
}

static int read_session(struct fin__ssl *tls, uint64_t max, uint64_t *n)
{
    size_t got = 0;
    int r;

    /* After close_notify nothing that we send counts (RFC 8446, 6.1), and after FIN it would fail:
     * what the session answers to a KeyUpdate is dropped. */
    tls->wire->muted = true;
    fin__wire_begin(tls->bio);
    if (SSL_read_ex(tls->ssl, tls->scratch, span(tls, max), &got) > 0) {
        *n = got;
        return FIN_LAYER_DONE;
    }
    if (is_answered(tls->ssl))
        return FIN_LAYER_ANSWERED;
    r = why(tls);
    tls->raw = r == FIN_LAYER_BROKEN || r == FIN_LAYER_EOF;
    return r;
}

static int read_cb(void *arg, uint64_t max, uint64_t *n)
{
    struct fin__ssl *tls = arg;
    struct fin__errors errors;
    int r;

    if (tls->raw)
        return read_raw(tls, max, n);
    fin__errors_save(&errors);
    r = read_session(tls, max, n);
    fin__errors_restore(&errors);
    return r;
}

/* ---- attach and detach ---- */

/* False for a BIO of the program's own that insists on closing its descriptor. */
static bool lets_go(BIO *bio)
{
    long was = BIO_get_close(bio);
    bool can;

    BIO_set_close(bio, BIO_NOCLOSE);
    can = BIO_get_close(bio) == BIO_NOCLOSE;
    BIO_set_close(bio, was);
    return can;
}

/* The socket under `bio`, or why there is none that we may talk to directly. */
static int socket_of(BIO *bio)
{
    int fd = -1;

    if (!bio || !BIO_find_type(bio, BIO_TYPE_DESCRIPTOR))
        return -ENOTCONN;
    if (!(BIO_method_type(bio) & BIO_TYPE_DESCRIPTOR))
        return -EOPNOTSUPP;
    if (BIO_method_type(bio) == BIO_TYPE_ACCEPT || BIO_get_fd(bio, &fd) < 0)
        return -ENOTCONN;
    return lets_go(bio) ? fd : -EOPNOTSUPP;
}

static int find_socket(SSL *ssl, int *ret)
{
    BIO *rbio = SSL_get_rbio(ssl), *wbio = SSL_get_wbio(ssl);
    int rfd, wfd;

    if (is_quic(ssl))
        return -EOPNOTSUPP;
    rfd = socket_of(rbio);
    wfd = socket_of(wbio);
    if (rfd < 0 || wfd < 0)
        return rfd < 0 ? rfd : wfd;
    if (rfd != wfd)
        return -ENOTCONN;
    if (BIO_get_ktls_send(wbio) || BIO_get_ktls_recv(rbio))
        return -EOPNOTSUPP;
    *ret = rfd;
    return 0;
}

static struct old_bio layer_keep(BIO *bio)
{
    BIO_up_ref(bio);
    return (struct old_bio) { bio, (int) BIO_get_close(bio) };
}

/* The program's reference to its BIO must not reach the number, which may be another file by
 * then. */
static void layer_drop(struct old_bio *old)
{
    int type = BIO_method_type(old->bio);

    if (type == BIO_TYPE_SOCKET || type == BIO_TYPE_FD)
        BIO_set_fd(old->bio, -1, BIO_NOCLOSE);
    BIO_free(old->bio);
}

/* Under quiet shutdown SSL_shutdown() sends nothing and claims both farewells; whether the peer's
 * came before that can't be known any more. SSL_OP_IGNORE_UNEXPECTED_EOF takes a bare FIN for the
 * peer's; nobody reads as far as a FIN behind a real one. */
static int believable(SSL *ssl, int shutdown)
{
    if (SSL_get_quiet_shutdown(ssl) && shutdown & SSL_SENT_SHUTDOWN)
        return 0;
    if (SSL_get_options(ssl) & SSL_OP_IGNORE_UNEXPECTED_EOF && BIO_eof(SSL_get_rbio(ssl)))
        return shutdown & ~SSL_RECEIVED_SHUTDOWN;
    return shutdown;
}

static void take_over(struct fin__ssl *tls)
{
    SSL *ssl = tls->ssl;

    tls->options = SSL_get_options(ssl);
    tls->mode = SSL_get_mode(ssl);
    tls->quiet = SSL_get_quiet_shutdown(ssl);
    tls->shutdown = SSL_get_shutdown(ssl);
    SSL_set_shutdown(ssl, believable(ssl, tls->shutdown));
    tls->rbio = layer_keep(SSL_get_rbio(ssl));
    tls->wbio = layer_keep(SSL_get_wbio(ssl));
    BIO_set_close(tls->rbio.bio, BIO_NOCLOSE);
    BIO_set_close(tls->wbio.bio, BIO_NOCLOSE);
    SSL_set_bio(ssl, tls->bio, tls->bio);
    SSL_clear_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    /* Partial writes show how far the write has come. Without retries SSL_read() asks to wait for
     * input that may be here already. */
    SSL_set_mode(ssl,
                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE
                     | SSL_MODE_AUTO_RETRY);
    SSL_set_quiet_shutdown(ssl, 0);
}

static void give_back(struct fin__ssl *tls)
{
    SSL *ssl = tls->ssl;

    BIO_set_close(tls->rbio.bio, tls->rbio.close);
    BIO_set_close(tls->wbio.bio, tls->wbio.close);
    SSL_set0_rbio(ssl, tls->rbio.bio);
    SSL_set0_wbio(ssl, tls->wbio.bio);
    SSL_set_options(ssl, tls->options);
    SSL_clear_mode(ssl, ~tls->mode);
    SSL_set_shutdown(ssl, tls->shutdown);
    SSL_set_quiet_shutdown(ssl, tls->quiet);
}

/* What the session has read and not given out must not be taken for the living stream. It ends: the
 * BIO gives no more. */
static void bury(struct fin__ssl *tls)
{
    size_t n;

    tls->wire->fd = -1;
    while (SSL_read_ex(tls->ssl, tls->scratch, sizeof tls->scratch, &n) > 0)
        continue;
    layer_drop(&tls->rbio);
    layer_drop(&tls->wbio);
}

static struct fin__ssl *tls_new(SSL *ssl, const struct fin_ssl_write *unfinished)
{
    struct fin__ssl *tls = OPENSSL_zalloc(sizeof *tls);

    if (!tls)
        return NULL;
    tls->layer = (struct fin_layer) FIN_LAYER_INIT;
    tls->layer.arg = tls;
    tls->layer.flush = flush_cb;
    tls->layer.unsent = unsent_cb;
    tls->layer.notify = notify_cb;
    tls->layer.read = read_cb;
    tls->ssl = ssl;
    if (unfinished) {
        tls->next = unfinished->buf;
        tls->left = unfinished->len;
    }
    return tls;
}

static int attach(SSL *ssl, const struct fin_ssl_write *unfinished, struct fin__ssl **ret, int *fd)
{
    struct fin__ssl *tls;
    int number, r;

    r = find_socket(ssl, &number);
    if (r < 0)
        return r;
    tls = tls_new(ssl, unfinished);
    if (!tls)
        return -ENOMEM;
    r = fin__wire_new(number, &tls->bio);
    if (r < 0) {
        OPENSSL_free(tls);
        return r;
    }
    tls->wire = fin__wire_of(tls->bio);
    take_over(tls);
    *ret = tls;
    *fd = number;
    return 0;
}

int fin__ssl_attach(SSL *ssl, const struct fin_ssl_write *unfinished, struct fin__ssl **ret,
                    int *fd)
{
    struct fin__errors errors;
    int r;

    if (!ssl || (unfinished && !unfinished->buf))
        return -EINVAL;
    fin__errors_save(&errors);
    r = attach(ssl, unfinished, ret, fd);
    fin__errors_restore(&errors);
    return r;
}

const struct fin_layer *fin__ssl_layer(const struct fin__ssl *tls)
{
    return &tls->layer;
}

struct fin__ssl *fin__ssl_detach(struct fin__ssl *tls, bool closed)
{
    struct fin__errors errors;

    if (!tls)
        return NULL;
    fin__errors_save(&errors);
    if (closed)
        bury(tls);
    else
        give_back(tls);
    fin__errors_restore(&errors);
    OPENSSL_free(tls);
    return NULL;
}
