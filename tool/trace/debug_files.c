/* SPDX-License-Identifier: MIT */

#include "trace/debug_files.h"

#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MOST (2ll << 30)

static int open_regular(const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= SIZE_MOST)
        return fd;
    close(fd);
    return -1;
}

/* What is no file, such as the vDSO, is read from memory. */
int debug_find_elf(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                   char **file_name, Elf **elf)
{
    if (*name != '/')
        return dwfl_linux_proc_find_elf(module, data, name, base, file_name, elf);
    *file_name = strdup(name);
    return *file_name ? open_regular(name) : -1;
}

static bool has_build_id(int fd, const unsigned char *id, int size)
{
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    const void *found;
    bool same =
        elf && dwelf_elf_gnu_build_id(elf, &found) == size && memcmp(found, id, (size_t) size) == 0;

    elf_end(elf);
    return same;
}

static int try_path(Dwfl_Module *module, const char *path, bool any, char **debug_name)
{
    const unsigned char *id;
    GElf_Addr address;
    int size = dwfl_module_build_id(module, &id, &address);
    int fd = size > 0 || any ? open_regular(path) : -1;

    if (fd >= 0 && (any || has_build_id(fd, id, size))) {
        *debug_name = strdup(path);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

/* `crc` is 0 for a file that several debug files share (.gnu_debugaltlink): it has an ID of its
 * own. */
int debug_find_info(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                    const char *file_name, const char *link, GElf_Word crc, char **debug_name)
{
    static const char *const before[] = { "", "", "/usr/lib/debug" };
    static const char *const behind[] = { "", "/.debug", "" };
    char folder[PATH_MAX], path[2 * PATH_MAX];
    int fd = -1;

    if (!link || crc)
        fd = dwfl_build_id_find_debuginfo(module, data, name, base, file_name, link, crc,
                                          debug_name);
    if (fd >= 0 || !link || !file_name || strlen(file_name) >= sizeof folder)
        return fd;
    if (*link == '/')
        return try_path(module, link, crc == 0, debug_name);
    strcpy(path, file_name);
    strcpy(folder, dirname(path));
    for (size_t i = 0; fd < 0 && i < sizeof before / sizeof *before; i++) {
        snprintf(path, sizeof path, "%s%s%s/%s", before[i], folder, behind[i], link);
        fd = try_path(module, path, crc == 0, debug_name);
    }
    return fd;
}
