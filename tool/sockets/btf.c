/* SPDX-License-Identifier: MIT */

#include "sockets/btf.h"

#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SIZE_MAX_TAKEN = 64 << 20,
    /* Newer than some headers: */
    KIND_DECL_TAG = 17,
    KIND_ENUM64 = 19
};

struct types {
    const char *at, *end, *names, *names_end;
    struct btf_member_wanted *wanted;
    size_t count;
    const char *function;
    uint32_t id; /* of the function, 0: not found */
};

static const char *name_at(const struct types *t, uint32_t offset)
{
    return offset < (size_t) (t->names_end - t->names) ? t->names + offset : "";
}

/* The names are terminated: the last byte is 0. */
static void take_members(struct types *t, const struct btf_type *type, const struct btf_member *m)
{
    const char *name = name_at(t, type->name_off);

    for (size_t w = 0; w < t->count; w++) {
        if (strcmp(name, t->wanted[w].structure) != 0)
            continue;
        for (uint32_t i = 0; i < BTF_INFO_VLEN(type->info); i++)
            if (strcmp(name_at(t, m[i].name_off), t->wanted[w].member) == 0)
                t->wanted[w].offset = (int32_t) (BTF_MEMBER_BIT_OFFSET(m[i].offset) / 8);
    }
}

/* What follows a type, for each of its parts, and once. */
static bool size_of_rest(uint32_t kind, size_t *each, size_t *once)
{
    static const struct {
        size_t each, once;
    } sizes[] = {
        [BTF_KIND_INT] = { 0, 4 },
        [BTF_KIND_ARRAY] = { 0, sizeof(struct btf_array) },
        [BTF_KIND_STRUCT] = { sizeof(struct btf_member), 0 },
        [BTF_KIND_UNION] = { sizeof(struct btf_member), 0 },
        [BTF_KIND_ENUM] = { sizeof(struct btf_enum), 0 },
        [BTF_KIND_FUNC_PROTO] = { sizeof(struct btf_param), 0 },
        [BTF_KIND_VAR] = { 0, sizeof(struct btf_var) },
        [BTF_KIND_DATASEC] = { sizeof(struct btf_var_secinfo), 0 },
        [KIND_DECL_TAG] = { 0, 4 },
        [KIND_ENUM64] = { 12, 0 },
    };

    if (kind > KIND_ENUM64)
        return false;
    *each = sizes[kind].each;
    *once = sizes[kind].once;
    return true;
}

static int read_types(struct types *t)
{
    for (uint32_t id = 1; t->at < t->end; id++) {
        const struct btf_type *type = (const void *) t->at;
        size_t room = (size_t) (t->end - t->at), each, once, size;
        uint32_t kind;

        if (room < sizeof *type)
            return -EPROTO;
        kind = BTF_INFO_KIND(type->info);
        if (!size_of_rest(kind, &each, &once))
            return -EPROTO;
        size = sizeof *type + once + each * BTF_INFO_VLEN(type->info);
        if (size > room)
            return -EPROTO;
        if (kind == BTF_KIND_STRUCT)
            take_members(t, type, (const void *) (type + 1));
        if (kind == BTF_KIND_FUNC && strcmp(name_at(t, type->name_off), t->function) == 0)
            t->id = id;
        t->at += size;
    }
    return 0;
}

static int read_header(struct types *t, const char *text, size_t size)
{
    const struct btf_header *h = (const void *) text;

    if (size < sizeof *h || h->magic != BTF_MAGIC || h->hdr_len > size
        || (uint64_t) h->hdr_len + h->type_off + h->type_len > size
        || (uint64_t) h->hdr_len + h->str_off + h->str_len > size || h->str_len == 0)
        return -EPROTO;
    t->at = text + h->hdr_len + h->type_off;
    t->end = t->at + h->type_len;
    t->names = text + h->hdr_len + h->str_off;
    t->names_end = t->names + h->str_len;
    return t->names_end[-1] ? -EPROTO : 0;
}

/* Some megabytes. */
struct whole {
    char *text;
    size_t size;
    bool mapped;
};

/* Newer kernels show their own copy, which takes no memory of ours. */
static int open_whole(struct whole *whole)
{
    int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
    struct stat st;

    *whole = (struct whole) { .text = NULL };
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > SIZE_MAX_TAKEN) {
        close(fd);
        return -ENOENT;
    }
    whole->text = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    whole->mapped = whole->text != MAP_FAILED;
    if (whole->mapped)
        whole->size = (size_t) st.st_size;
    else
        whole->text = file_read(fd, (size_t) st.st_size, &whole->size);
    close(fd);
    return whole->text ? 0 : -ENOMEM;
}

static void close_whole(struct whole *whole)
{
    if (whole->mapped)
        munmap(whole->text, whole->size);
    else
        free(whole->text);
}

int btf_find(struct btf_member_wanted *wanted, size_t count, const char *function, uint32_t *id)
{
    struct types types = { .wanted = wanted, .count = count, .function = function };
    struct whole whole;
    int result = open_whole(&whole);

    if (result < 0)
        return result;
    for (size_t i = 0; i < count; i++)
        wanted[i].offset = -1;
    result = read_header(&types, whole.text, whole.size);
    if (result == 0)
        result = read_types(&types);
    close_whole(&whole);
    for (size_t i = 0; i < count && result == 0; i++)
        if (wanted[i].offset < 0)
            result = -ENOENT;
    *id = types.id;
    return result == 0 && types.id == 0 ? -ENOENT : result;
}
