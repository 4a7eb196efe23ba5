/* SPDX-License-Identifier: MIT */

/* usage: race_handle CLOSES | race_handle CLOSES unguarded
 *
 * Readers receive on sockets while they are closed, and other threads open sockets all the time, so
 * that a number which is free has a stranger's socket at once. Each socket holds bytes with its own
 * tag: a reader that gets another tag read from a reused number, and a stranger that misses a byte
 * was robbed. With `unguarded` the readers use the bare number, and that must be noticed. */

#include <finack.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 16
#define READERS 2
#define STRANGERS 2
#define HELD 8 /* sockets that a stranger has open */
#define BYTES 2
#define NUMBERS 1024
#define STRANGE UINT64_MAX

/* How the readers read, and how the socket is closed. */
enum way {
    OWN,       /* fin_handle_recv() */
    FOREIGN,   /* recv(2) between enter and leave, woken by the close */
    ENTOMBED,  /* recv(2) between enter and leave, scope descriptor */
    IMPATIENT, /* both, and the close does not wait */
    WAYS,
};

struct target {
    struct fin_handle *handle;
    int fd, peer;
    uint64_t tag;
    enum way way;
};

static struct target batch[BATCH];
static pthread_barrier_t begin, end;
static bool guarded = true;
static atomic_bool over;
static atomic_ulong wrong, robbed, broken, reused, tombstones;
static atomic_bool was_ours[NUMBERS]; /* the number was last released by a close of ours */

static void must(bool fine, const char *what)
{
    if (!fine) {
        perror(what);
        abort();
    }
}

/* ---- strangers ---- */

static void open_pair(int fds[2], uint64_t tag)
{
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    for (int i = 0; i < BYTES; i++)
        must(send(fds[1], &tag, sizeof tag, 0) == sizeof tag, "send");
}

static void open_strange(int fds[2])
{
    open_pair(fds, STRANGE);
    for (int i = 0; i < 2; i++)
        if (fds[i] < NUMBERS && atomic_exchange(&was_ours[fds[i]], false))
            atomic_fetch_add(&reused, 1);
}

static void close_strange(const int fds[2])
{
    uint64_t tag;
    int count = 0;

    while (recv(fds[0], &tag, sizeof tag, MSG_DONTWAIT) == sizeof tag && tag == STRANGE)
        count++;
    if (count != BYTES)
        atomic_fetch_add(&robbed, 1);
    must(close(fds[0]) == 0 && close(fds[1]) == 0, "close");
}

/* Opens before it closes, so that it takes numbers other than its own. */
static void *stranger_main(void *arg)
{
    int held[HELD][2], fresh[2];
    size_t next = 0;

    (void) arg;
    for (size_t i = 0; i < HELD; i++)
        open_strange(held[i]);
    while (!atomic_load(&over)) {
        open_strange(fresh);
        close_strange(held[next]);
        memcpy(held[next], fresh, sizeof fresh);
        next = (next + 1) % HELD;
        (void) sched_yield();
    }
    for (size_t i = 0; i < HELD; i++)
        close_strange(held[i]);
    return NULL;
}

/* ---- readers ---- */

static void check_tag(const struct target *target, int64_t n, uint64_t tag)
{
    if (n > 0 && (n != sizeof tag || tag != target->tag))
        atomic_fetch_add(&wrong, 1);
}

static void receive(const struct target *target, int fd, int flags)
{
    uint64_t tag = 0;
    ssize_t n = recv(fd, &tag, sizeof tag, flags);

    check_tag(target, n, tag);
}

static void read_own(const struct target *target)
{
    uint64_t tag = 0;
    int64_t n;

    while ((n = fin_handle_recv(target->handle, &tag, sizeof tag, 0, -1)) > 0)
        check_tag(target, n, tag);
    if (n != -ECANCELED)
        atomic_fetch_add(&broken, 1);
}

/* Goes in and out, and looks at the number twice while it is inside. */
static void read_foreign(const struct target *target)
{
    int flags = target->way == FOREIGN ? 0 : MSG_DONTWAIT, fd;

    while ((fd = fin_handle_enter(target->handle)) >= 0) {
        receive(target, fd, flags);
        (void) sched_yield();
        receive(target, fd, MSG_DONTWAIT);
        fin_handle_leave(target->handle);
    }
    if (fd != -ECANCELED)
        atomic_fetch_add(&broken, 1);
}

/* What everybody does without a handle: look whether it is closed, and read. */
static void read_unguarded(const struct target *target)
{
    int fd;

    do {
        fd = fin_handle_enter(target->handle);
        if (fd >= 0)
            fin_handle_leave(target->handle);
        (void) sched_yield();
        receive(target, target->fd, MSG_DONTWAIT);
    } while (fd >= 0);
}

static void read_one(const struct target *target, int reader)
{
    if (!guarded)
        read_unguarded(target);
    else if (target->way == OWN || (target->way == IMPATIENT && reader % 2 == 0))
        read_own(target);
    else
        read_foreign(target);
}

static void *reader_main(void *arg)
{
    int reader = *(int *) arg;

    for (;;) {
        (void) pthread_barrier_wait(&begin);
        if (atomic_load(&over))
            return NULL;
        for (size_t i = 0; i < BATCH; i++)
            read_one(&batch[i], reader);
        (void) pthread_barrier_wait(&end);
    }
}

/* ---- the closer ---- */

static void open_target(struct target *target, uint64_t tag)
{
    int fds[2];

    open_pair(fds, tag);
    must(fds[0] < NUMBERS, "number");
    target->fd = fds[0];
    target->peer = fds[1];
    target->tag = tag;
    target->way = (enum way)(tag % WAYS);
    must(fin_handle_new(target->fd, &target->handle) == 0, "fin_handle_new");
}

/* So that the close meets the readers at ever other points. */
static void linger_a_little(void)
{
    static unsigned seed = 1;
    volatile int spin = rand_r(&seed) % 4000;

    while (spin > 0)
        spin--;
}

static void close_target(const struct target *target)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    policy.courtesy = FIN_COURTESY_PROMPT;
    policy.proof = FIN_STAGE_RELEASED;
    if (target->way == ENTOMBED)
        policy.scope = FIN_SCOPE_DESCRIPTOR;
    if (target->way == IMPATIENT)
        policy.total_ms = 0;
    linger_a_little();
    atomic_store(&was_ours[target->fd], true);
    if (fin_handle_close(target->handle, NULL, &policy, &receipt) != 0)
        atomic_fetch_add(&broken, 1);
    if (receipt.tombstone)
        atomic_fetch_add(&tombstones, 1);
}

static void run_batch(uint64_t first)
{
    for (size_t i = 0; i < BATCH; i++)
        open_target(&batch[i], first + i);
    (void) pthread_barrier_wait(&begin);
    for (size_t i = 0; i < BATCH; i++)
        close_target(&batch[i]);
    (void) pthread_barrier_wait(&end);
    for (size_t i = 0; i < BATCH; i++) {
        (void) fin_handle_free(batch[i].handle);
        must(close(batch[i].peer) == 0, "close");
    }
}

static void run(unsigned long closes)
{
    pthread_t readers[READERS], strangers[STRANGERS];
    int numbers[READERS];

    for (int i = 0; i < READERS; i++) {
        numbers[i] = i;
        must(pthread_create(&readers[i], NULL, reader_main, &numbers[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < STRANGERS; i++)
        must(pthread_create(&strangers[i], NULL, stranger_main, NULL) == 0, "pthread_create");
    for (unsigned long done = 0; done < closes; done += BATCH)
        run_batch(done);
    atomic_store(&over, true);
    (void) pthread_barrier_wait(&begin);
    for (int i = 0; i < READERS; i++)
        (void) pthread_join(readers[i], NULL);
    for (int i = 0; i < STRANGERS; i++)
        (void) pthread_join(strangers[i], NULL);
}

/* One descriptor too many, or too few, moves the lowest number that is free. */
static int lowest_free(void)
{
    int fd = dup(0);

    must(fd >= 0 && close(fd) == 0, "dup");
    return fd;
}

static bool fine(int before)
{
    bool noticed = atomic_load(&wrong) + atomic_load(&robbed) > 0;

    if (!guarded)
        return noticed;
    return !noticed && atomic_load(&broken) == 0 && lowest_free() == before
        && atomic_load(&reused) > 0 && atomic_load(&tombstones) > 0;
}

int main(int argc, char **argv)
{
    unsigned long closes = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    int before = lowest_free();

    guarded = argc < 3 || strcmp(argv[2], "unguarded") != 0;
    must(pthread_barrier_init(&begin, NULL, READERS + 1) == 0, "pthread_barrier_init");
    must(pthread_barrier_init(&end, NULL, READERS + 1) == 0, "pthread_barrier_init");
    run(closes);
    printf("%lu closes, %lu numbers reused by a stranger, %lu tombstones; %lu wrong tags, %lu "
           "strangers robbed, %lu wrong results\n",
           closes, atomic_load(&reused), atomic_load(&tombstones), atomic_load(&wrong),
           atomic_load(&robbed), atomic_load(&broken));
    (void) pthread_barrier_destroy(&begin);
    (void) pthread_barrier_destroy(&end);
    return fine(before) ? 0 : 1;
}
