/* SPDX-License-Identifier: MIT */

/* What is read from /proc, by the library and by the command: the files and links are made from
 * bytes, in a folder that looks like the one of a process. */

#include "kernel/proc.h"
#include "bytes.h"
#include "common/procfs.h"
#include "kernel/fdinfo.h"
#include "sockets/container.h"
#include "sockets/epoll_set.h"
#include "trace/inspect.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NUMBER 5
#define LIMIT 65536 /* /proc has no longer line, and few longer files */

/* ---- the folder ---- */

static char top[] = "/tmp/finack-fuzz-XXXXXX";
static int process, fds = -1;

static void remove_folder(void)
{
    static const char *const names[] = { "fdinfo/5", "fd/5", "comm" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void) unlinkat(process, names[i], 0);
    (void) unlinkat(process, "fdinfo", AT_REMOVEDIR);
    (void) unlinkat(process, "fd", AT_REMOVEDIR);
    (void) rmdir(top);
}

static void make_folder(void)
{
    if (fds >= 0)
        return;
    must(mkdtemp(top), "a folder can be made");
    process = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(mkdirat(process, "fd", 0700) == 0 && mkdirat(process, "fdinfo", 0700) == 0, "as in /proc");
    fds = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(fds >= 0 && atexit(remove_folder) == 0, "it can be used");
}

static void write_file(const char *name, const struct bytes *bytes)
{
    int fd = openat(process, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    must(fd >= 0 && write(fd, bytes->at, bytes->left) == (ssize_t) bytes->left, "a file is made");
    close(fd);
}

/* ---- epoll sets ---- */

static void count_entry(const struct fin__entry *entry, void *arg)
{
    unsigned *found = arg;

    must(entry->fd >= 0, "a number is not negative");
    (*found)++;
}

static void read_fdinfo(const struct bytes *bytes)
{
    int fd = memfd_create("fdinfo", MFD_CLOEXEC);
    unsigned found = 0;

    must(fd >= 0 && write(fd, bytes->at, bytes->left) == (ssize_t) bytes->left, "a file is made");
    (void) fin__fdinfo_read(fd, count_entry, &found);
    must(found <= bytes->left / sizeof "tfd:events:data:", "no more entries than lines");
    close(fd);
}

static void read_set(struct bytes *bytes)
{
    struct scan found = { .sockfs = take_byte(bytes) };
    struct reference own[] = { { .inode = 27, .fd = 5 }, { .inode = 28, .fd = 6 } };

    write_file("fdinfo/5", bytes);
    (void) epoll_set_read(fds, NUMBER, own, 2, &found);
    for (size_t i = 0; i < found.stales.count; i++)
        must(found.stales.at[i].fd >= 0, "a number is not negative");
    holders_free(&found);
}

/* ---- a link, a name, numbers in a line ---- */

static void read_link(struct bytes *bytes)
{
    struct fin__folder folder = { .fd = fds };
    char text[PATH_MAX];
    struct fin__link link;
    uint64_t inode;

    (void) take_text(bytes, text, sizeof text);
    (void) unlinkat(fds, "5", 0);
    if (symlinkat(text, fds, "5") < 0) /* an empty one */
        return;
    must(fin__link_read(&folder, NUMBER, &link) == 0, "a link can be read");
    must(link.kind != FIN__LINK_OTHER || link.inode == 0, "other things have no inode");
    inode = link_inode(fds, "5", "socket:[");
    must(link.kind != FIN__LINK_SOCKET || inode == link.inode, "the command reads the same");
}

static void read_name(const struct bytes *bytes)
{
    struct fin__folder folder = { .fd = fds };
    char name[16], text[64];
    int size;

    write_file("comm", bytes);
    fin__command_read(&folder, name);
    must(name[15] == '\0', "a name is terminated");
    size = read_file(fds, "../comm", text, sizeof text);
    must(size >= 0 && size < (int) sizeof text && text[size] == '\0', "a text is terminated");
}

static void read_stat(struct bytes *bytes)
{
    int number = 3 + (int) take_below(bytes, 60);
    char text[STAT_SIZE];
    struct container container;
    const char *field;
    size_t size = bytes->left < sizeof text - 1 ? bytes->left : sizeof text - 1;

    memcpy(text, bytes->at, size);
    text[size] = '\0';
    field = stat_find(text, number);
    must(!field || (field > text && field <= text + strlen(text)), "a field is in its text");
    (void) inspect_tgid(text);
    container_parse(text, &container);
    must(strlen(container.cgroup) < sizeof container.cgroup && strlen(container.id) % 64 == 0
             && strlen(container.pod) % 36 == 0,
         "what a container is called has its length");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, size < LIMIT ? size : LIMIT };

    make_folder();
    switch (take_below(&bytes, 5)) {
    case 0:
        read_fdinfo(&bytes);
        break;
    case 1:
        read_set(&bytes);
        break;
    case 2:
        read_link(&bytes);
        break;
    case 3:
        read_name(&bytes);
        break;
    default:
        read_stat(&bytes);
        break;
    }
    return 0;
}
