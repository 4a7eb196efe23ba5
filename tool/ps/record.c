/* SPDX-License-Identifier: MIT */

#include "ps/record.h"

#include "common/say.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* A socket of the earlier look. */
struct before {
    uint64_t cookie, inode;
    int verdict; /* -1: one that we do not know */
    bool seen;
};

typedef LIST(struct before) earlier_list; /* by cookie and inode */

static int record_compare(const void *a, const void *b)
{
    const struct before *x = a, *y = b;

    if (x->cookie != y->cookie)
        return x->cookie < y->cookie ? -1 : 1;
    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* ---- reading ---- */

static int verdict_of(const char *name)
{
    int f = 0;

    while (f < FINDINGS && (!name || strcmp(finding_name(f), name) != 0))
        f++;
    return f < FINDINGS ? f : -1;
}

/* Whatever is not as it should be is nothing. */
static int record_take(const json_t *document, earlier_list *ret)
{
    const json_t *sockets = json_object_get(document, "sockets"), *s;
    size_t i;

    if (!json_is_array(sockets))
        return -EINVAL;
    json_array_foreach(sockets, i, s)
    {
        struct before before = {
            .cookie = (uint64_t) json_integer_value(json_object_get(s, "cookie")),
            .inode = (uint64_t) json_integer_value(json_object_get(s, "inode")),
            .verdict = verdict_of(json_string_value(json_object_get(s, "verdict"))),
        };

        if (list_add(ret, before) < 0)
            return -ENOMEM;
    }
    list_sort(ret, record_compare);
    return 0;
}

static int read_earlier(const char *path, earlier_list *ret)
{
    json_error_t error;
    json_t *document = json_load_file(path, 0, &error);
    int result;

    if (!document && error.line < 0)
        return complain("--since: %s", error.text);
    if (!document)
        return complain("--since %s: line %d: %s", path, error.line, error.text);
    result = record_take(document, ret);
    json_decref(document);
    if (result == -EINVAL)
        return complain("--since %s: this is no document of 'finack ps --json'", path);
    return result < 0 ? complain("out of memory") : 0;
}

/* ---- comparing ---- */

static struct before *record_find(const earlier_list *earlier, const struct socket *s)
{
    struct before key = { .cookie = s->cookie, .inode = s->inode };

    return list_search(earlier, &key, record_compare);
}

static bool is_news(const earlier_list *earlier, const struct socket *s, struct ps_changes *changes)
{
    struct before *before = record_find(earlier, s);

    if (!before) {
        changes->came++;
        return true;
    }
    before->seen = true;
    changes->changed += before->verdict != (int) s->verdict;
    return before->verdict != (int) s->verdict;
}

int ps_record_compare(const char *path, struct ps_rows *rows)
{
    earlier_list earlier = { .at = NULL };
    size_t kept = 0;
    int status = read_earlier(path, &earlier);

    rows->compared = true;
    for (size_t i = 0; !status && i < rows->rows.count; i++) {
        const struct socket *s = rows->rows.at[i];

        if (is_news(&earlier, s, &rows->changes)) {
            rows->rows.at[kept++] = s;
            continue;
        }
        rows->count[s->verdict]--;
        rows->ghosts -= is_ghost(s->verdict);
    }
    if (!status)
        rows->rows.count = kept;
    for (size_t i = 0; i < earlier.count; i++)
        rows->changes.went += !earlier.at[i].seen;
    free(earlier.at);
    return status;
}
