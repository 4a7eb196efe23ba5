/* SPDX-License-Identifier: MIT */

#include "tls_pair.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
/* cmocka needs the standard headers before it */
#include <cmocka.h>

static SSL_CTX *client_ctx, *server_ctx;
static volatile sig_atomic_t pipes;

static void on_pipe(int signal)
{
    (void) signal;
    pipes++;
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);

    assert_non_null(cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *) "localhost", -1,
                               -1, 0);
    X509_set_issuer_name(cert, name);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    return cert;
}

int tls_setup(void **state)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = make_certificate(key);
    struct sigaction action = { .sa_handler = on_pipe };

    (void) state;
    sigaction(SIGPIPE, &action, NULL);
    client_ctx = SSL_CTX_new(TLS_client_method());
    server_ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(server_ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server_ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    return 0;
}

int tls_teardown(void **state)
{
    (void) state;
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(server_ctx);
    return pipes;
}

void set_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);

    assert_int_equal(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), 0);
}

int descriptors_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Small buffers: a few writes fill them. A peer that would wait for ever fails its test. */
static void limit(int fd)
{
    struct timeval guard = { .tv_sec = 20 };
    int size = 16384;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &guard, sizeof guard);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &guard, sizeof guard);
}

static void connect_tcp(int fds[2])
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    limit(listener);
    assert_int_equal(bind(listener, (struct sockaddr *) &address, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &size), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    limit(fds[0]);
    assert_int_equal(connect(fds[0], (struct sockaddr *) &address, size), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    close(listener);
}

static SSL *session(SSL_CTX *ctx, int fd, int version)
{
    SSL *ssl = SSL_new(ctx);

    assert_non_null(ssl);
    SSL_set_min_proto_version(ssl, version);
    SSL_set_max_proto_version(ssl, version);
    SSL_set_fd(ssl, fd);
    BIO_set_close(SSL_get_rbio(ssl), BIO_CLOSE);
    return ssl;
}

void pair_connect(struct pair *pair, enum pair_kind kind, int version)
{
    int fds[2], on = 1;

    memset(pair, 0, sizeof *pair);
    if (kind == PAIR_TCP)
        connect_tcp(fds);
    else
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        limit(fds[i]);
    if (kind == PAIR_TCP) /* what the peer sends is here at once; ours is the library's to set */
        setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    pair->fd = fds[0];
    pair->peer_fd = fds[1];
    pair->ours = session(client_ctx, pair->fd, version);
    pair->theirs = session(server_ctx, pair->peer_fd, version);
    SSL_set_connect_state(pair->ours);
    SSL_set_accept_state(pair->theirs);
}

void pair_open(struct pair *pair, enum pair_kind kind, int version)
{
    struct pollfd both[2] = { { .events = POLLIN }, { .events = POLLIN } };
    bool done = false;

    pair_connect(pair, kind, version);
    both[0].fd = pair->fd;
    both[1].fd = pair->peer_fd;
    set_nonblocking(pair->fd, true);
    set_nonblocking(pair->peer_fd, true);
    for (int i = 0; i < 1000 && !done; i++) {
        int ours = SSL_do_handshake(pair->ours), theirs = SSL_do_handshake(pair->theirs);

        done = ours == 1 && theirs == 1;
        if (!done) /* a slow processor takes its time from one to the other */
            (void) poll(both, 2, 10);
    }
    assert_true(done);
    ERR_clear_error();
    set_nonblocking(pair->fd, false);
    set_nonblocking(pair->peer_fd, false);
}

void pair_swap(struct pair *pair)
{
    SSL *ours = pair->ours;
    int fd = pair->fd;

    pair->ours = pair->theirs;
    pair->fd = pair->peer_fd;
    pair->theirs = ours;
    pair->peer_fd = fd;
}

static void *run(void *arg)
{
    struct pair *pair = arg;
    sigset_t set;

    sigemptyset(&set); /* the peer's own SIGPIPE is not what is tested */
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pair->script(pair);
    return NULL;
}

void pair_run(struct pair *pair, void (*script)(struct pair *pair))
{
    pair->script = script;
    assert_int_equal(pthread_create(&pair->thread, NULL, run, pair), 0);
}

void pair_join(struct pair *pair)
{
    assert_int_equal(pthread_join(pair->thread, NULL), 0);
}

void pair_close(struct pair *pair, bool closed)
{
    if (closed)
        assert_int_equal(SSL_get_fd(pair->ours), -1);
    SSL_free(pair->ours);
    SSL_free(pair->theirs);
    ERR_clear_error();
}

unsigned char pair_byte(size_t offset)
{
    return (unsigned char) (offset * 31 + (offset >> 8) * 7);
}

static enum seen_end how_it_ended(SSL *ssl, int result)
{
    int saved = errno;

    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_ZERO_RETURN:
        return SEEN_CLOSE_NOTIFY;
    case SSL_ERROR_SYSCALL:
        return saved == ECONNRESET ? SEEN_RESET : SEEN_OTHER;
    case SSL_ERROR_SSL:
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return SEEN_EOF;
        return SEEN_TLS_ERROR;
    default:
        return SEEN_OTHER;
    }
}

static void read_plaintext(struct pair *pair)
{
    unsigned char buf[4096];
    int n;

    pair->intact = true;
    ERR_clear_error();
    errno = 0;
    while ((n = SSL_read(pair->theirs, buf, sizeof buf)) > 0)
        for (int i = 0; i < n; i++)
            pair->intact &= buf[i] == pair_byte(pair->bytes++);
    pair->tls_end = how_it_ended(pair->theirs, n);
    ERR_clear_error();
}

static void read_rest(struct pair *pair)
{
    socklen_t size = sizeof pair->so_error;
    char buf[4096];
    ssize_t n;

    do
        n = recv(pair->peer_fd, buf, sizeof buf, 0);
    while (n > 0);
    pair->raw_end = n == 0 ? SEEN_EOF : errno == ECONNRESET ? SEEN_RESET : SEEN_OTHER;
    getsockopt(pair->peer_fd, SOL_SOCKET, SO_ERROR, &pair->so_error, &size);
}

void peer_read_all(struct pair *pair)
{
    read_plaintext(pair);
    read_rest(pair);
}

void peer_read_all_and_answer(struct pair *pair)
{
    read_plaintext(pair);
    if (pair->tls_end == SEEN_CLOSE_NOTIFY)
        SSL_shutdown(pair->theirs);
    shutdown(pair->peer_fd, SHUT_WR);
    read_rest(pair);
}

void peer_read_all_and_truncate(struct pair *pair)
{
    read_plaintext(pair);
    shutdown(pair->peer_fd, SHUT_WR);
    read_rest(pair);
}

/* The peer's kernel takes no more either: its window is shut, and a probe has found it so
 * (RFC 9293, 3.8.6.1). A Unix socket has none. */
static bool is_stuck(int fd)
{
    struct pollfd entry = { fd, POLLOUT, 0 };
    struct tcp_info info = { 0 };
    socklen_t size = sizeof info;
    int not_sent = 0;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return true;
    (void) ioctl(fd, SIOCOUTQNSD, &not_sent);
    if (info.tcpi_unacked == 0 && info.tcpi_backoff > 0 && not_sent > 0)
        return true;
    (void) poll(&entry, 1, 1);
    return false;
}

size_t pair_fill(struct pair *pair, size_t chunk, unsigned char **base, const void **buf,
                 size_t *len)
{
    size_t total = 0, wrote = 0;
    unsigned char *data = malloc(chunk);
    int result;

    assert_non_null(data);
    set_nonblocking(pair->fd, true);
    do {
        if (wrote == chunk)
            wrote = 0;
        for (size_t i = wrote; i < chunk; i++)
            data[i] = pair_byte(total + i - wrote);
        result = SSL_write(pair->ours, data + wrote, (int) (chunk - wrote));
        if (result > 0) {
            wrote += (size_t) result;
            total += (size_t) result;
        }
    } while (result > 0 || !is_stuck(pair->fd));
    assert_int_equal(SSL_get_error(pair->ours, result), SSL_ERROR_WANT_WRITE);
    *base = data;
    *buf = data + wrote;
    *len = chunk - wrote;
    return total;
}
