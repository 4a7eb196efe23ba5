/* SPDX-License-Identifier: MIT */

/* A closer with nothing to do wakes nobody, and costs other programs nothing: it has left the
 * groups of destroy events that its last followed close had joined. */

#include "closer_parts.h"

#include <dirent.h>
#include <finack.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define IDLE_MS 5000

static bool is_ours(unsigned long inode)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    struct stat st;
    bool found = false;

    if (!dir)
        bench_die("/proc/self/fd can't be read");
    while (!found && (entry = readdir(dir)))
        found = fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISSOCK(st.st_mode)
            && st.st_ino == inode;
    (void) closedir(dir);
    return found;
}

/* The groups that netlink sockets of this process are in, as a mask. */
static unsigned groups_joined(void)
{
    FILE *file = fopen("/proc/net/netlink", "re");
    char line[256];
    unsigned groups, all = 0;
    unsigned long inode;

    if (!file)
        bench_die("/proc/net/netlink can't be read");
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%*s %*d %*s %x %*d %*d %*s %*d %*d %lu", &groups, &inode) == 2 && groups
            && is_ours(inode))
            all |= groups;
    (void) fclose(file);
    return all;
}

static int wait_for_input(struct fin_closer *closer, int timeout_ms)
{
    struct pollfd entry = { .fd = fin_closer_fd(closer), .events = POLLIN };

    return bench_must(poll(&entry, 1, timeout_ms), "poll");
}

static void closed(const struct fin_receipt *receipt, void *arg)
{
    (void) receipt;
    (void) arg;
    completed(0);
}

/* One close that is followed: the peer still has its half open when we let go. */
static void follow_one(struct crowd *crowd, struct fin_closer *closer)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    int fd;

    policy.courtesy = FIN_COURTESY_PROMPT;
    policy.proof = FIN_STAGE_FINISHED;
    policy.proof_ms = 10000;
    completed_none(NULL);
    crowd_connect(crowd, &fd, 1, 1); /* stamped: the peer closes 50 paces after our FIN */
    if (fin_closer_submit(closer, fd, &policy, closed, NULL, NULL) < 0)
        bench_die("fin_closer_submit failed");
    (void) fin_closer_dispatch(closer);
    if (completed_count() == 0 && groups_joined() == 0)
        bench_die("a followed close has joined no group: the check can't see one");
    while (completed_count() == 0) {
        (void) wait_for_input(closer, -1);
        (void) fin_closer_dispatch(closer);
    }
    crowd_settle(crowd);
}

static int wakeups_when_idle(struct fin_closer *closer)
{
    uint64_t end = monotonic_ns() + IDLE_MS * 1000000ull, now;
    int count = 0;

    while ((now = monotonic_ns()) < end) {
        if (wait_for_input(closer, (int) ((end - now) / 1000000) + 1) == 0)
            continue;
        count++;
        (void) fin_closer_dispatch(closer);
    }
    return count;
}

static void add(struct report *report, const char *name, double value)
{
    struct row row = { name, value, value, value, 0 };

    report_add(report, &row, NULL);
}

void bench_idle(struct crowd *crowd, struct report *report)
{
    struct fin_closer *closer;

    if (fin_closer_new(NULL, &closer) < 0)
        bench_die("fin_closer_new failed");
    follow_one(crowd, closer);
    add(report, "closer.idle.wakeups", wakeups_when_idle(closer));
    add(report, "closer.idle.groups", groups_joined());
    (void) fin_closer_free(closer);
}
