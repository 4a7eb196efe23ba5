/* SPDX-License-Identifier: MIT */

#include "attach/exchange.h"

#include "attach/survey.h"
#include "base/descriptor.h"
#include "common/file.h"
#include "common/procfs.h"
#include "common/say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ANSWER_MOST = 256 << 20
};

/* Whom the process opens files as. */
static int owner(int32_t pid, uid_t *uid, gid_t *gid)
{
    char text[4096];
    const char *u, *g;

    if (read_proc(text, sizeof text, "/proc/%d/status", pid) <= 0)
        return -ESRCH;
    u = strstr(text, "\nUid:");
    g = strstr(text, "\nGid:");
    if (!u || !g || sscanf(u + 5, "%*u %*u %*u %u", uid) != 1 // NOLINT
        || sscanf(g + 5, "%*u %*u %*u %u", gid) != 1)         // NOLINT
        return -EIO;
    return 0;
}

static int make_folder(struct exchange *x, int32_t pid, int root, const char *parent)
{
    uint64_t number;

    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return -EIO;
    snprintf(x->name, sizeof x->name, "finack-%d-%016llx", pid, (unsigned long long) number);
    x->parent = openat(root, parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (x->parent < 0 || mkdirat(x->parent, x->name, 0700) < 0)
        return -errno;
    x->folder = openat(x->parent, x->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return x->folder < 0 ? -errno : 0;
}

static int make_file(const struct exchange *x, const char *name, uid_t uid, gid_t gid)
{
    int fd = openat(x->folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int result = fd < 0 || fchown(fd, uid, gid) < 0 ? -errno : fd;

    if (result < 0 && fd >= 0)
        close(fd);
    return result;
}

static int write_script(const struct exchange *x, const char *answer, uid_t uid, gid_t gid)
{
    int fd = make_file(x, "script.py", uid, gid), result;

    if (fd < 0)
        return fd;
    result = write_all(fd, survey_before_path, strlen(survey_before_path));
    if (result == 0)
        result = write_all(fd, answer, strlen(answer));
    if (result == 0)
        result = write_all(fd, survey_after_path, strlen(survey_after_path));
    close(fd);
    return result;
}

static int fill(struct exchange *x, int32_t pid, const char *parent)
{
    char answer[SCRIPT_PATH];
    uid_t uid;
    gid_t gid;
    int result = owner(pid, &uid, &gid);

    if (result < 0)
        return result;
    snprintf(x->script, sizeof x->script, "/%s/%s/script.py", parent, x->name);
    snprintf(answer, sizeof answer, "/%s/%s/answer", parent, x->name);
    result = write_script(x, answer, uid, gid);
    if (result == 0) {
        x->answer = make_file(x, "answer", uid, gid);
        result = x->answer < 0 ? x->answer : 0;
    }
    if (result == 0 && fchown(x->folder, uid, gid) < 0)
        result = -errno;
    return result;
}

/* In the mount namespace of the process, the first place that can be written to. */
int exchange_open(struct exchange *x, int32_t pid)
{
    static const char *const parents[] = { "tmp", "var/tmp", "dev/shm" };
    char path[32];
    int root, result = 0;

    *x = (struct exchange) { -1, -1, -1, "", "" };
    snprintf(path, sizeof path, "/proc/%d/root", pid);
    root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -errno;
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        result = make_folder(x, pid, root, parents[i]);
        if (result == 0)
            result = fill(x, pid, parents[i]);
        if (result == 0)
            break;
        exchange_close(x);
    }
    close(root);
    return result;
}

void exchange_close(struct exchange *x)
{
    if (x->folder >= 0) {
        unlinkat(x->folder, "script.py", 0);
        unlinkat(x->folder, "answer", 0);
        unlinkat(x->parent, x->name, AT_REMOVEDIR);
    }
    fin__drop(&x->answer);
    fin__drop(&x->folder);
    fin__drop(&x->parent);
}

/* Its last byte is the one end of a line in it. */
int exchange_read(const struct exchange *x, char **ret_text)
{
    struct stat st;
    size_t used;
    char last = 0;

    if (fstat(x->answer, &st) < 0)
        return -errno;
    if (st.st_size == 0 || pread(x->answer, &last, 1, st.st_size - 1) != 1 || last != '\n')
        return 0;
    if (st.st_size > ANSWER_MOST)
        return -EFBIG;
    *ret_text = file_read(x->answer, (size_t) st.st_size, &used);
    if (!*ret_text)
        return -ENOMEM;
    return used == (size_t) st.st_size ? 1 : -EIO;
}
