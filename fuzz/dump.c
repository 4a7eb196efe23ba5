/* SPDX-License-Identifier: MIT */

/* The sockets that sock_diag(7) lists, on their whole way through `finack ps` and `finack export`,
 * with holders and epoll entries of any name and number. */

#include "export/metrics.h"
#include "export/options.h"
#include "netlink_fake.h"
#include "ps/json.h"
#include "ps/rows.h"
#include "ps/text.h"
#include "sockets/judge.h"

#include <jansson.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>

#define PROCESSES 3

/* ---- who has them ---- */

static void take_processes(struct bytes *bytes, struct snapshot *snapshot)
{
    struct scan *scan = &snapshot->scan;

    must(list_need(&scan->processes, PROCESSES) == 0, "memory");
    must(list_need(&scan->sets, PROCESSES) == 0, "memory");
    for (uint32_t i = 0; i < PROCESSES; i++) {
        struct process *p = &scan->processes.at[i];

        *p = (struct process) { .pid = (int32_t) i + 1 };
        (void) take_text(bytes, p->command, sizeof p->command);
        scan->sets.at[i] = (struct epoll_set) { .process = i, .fd = 4, .stales = 1 };
    }
    scan->processes.count = scan->sets.count = PROCESSES;
}

static void take_holders(struct bytes *bytes, struct snapshot *snapshot, struct socket *s)
{
    s->references = take_below(bytes, 5);
    s->first_reference = (uint32_t) snapshot->held.count;
    must(list_need(&snapshot->held, s->references + 1) == 0, "memory");
    for (size_t i = 0; i < s->references; i++)
        snapshot->held.at[snapshot->held.count++] =
            (struct reference) { .inode = s->inode,
                                 .process = take_below(bytes, PROCESSES) & INT32_MAX,
                                 .watched = take_below(bytes, 2) & 1u,
                                 .fd = take_byte(bytes) };
}

static void take_stale(struct bytes *bytes, struct snapshot *snapshot, struct socket *s)
{
    struct scan *scan = &snapshot->scan;
    uint32_t stales = take_below(bytes, 3);

    must(list_need(&scan->stales, stales + 1) == 0, "memory");
    for (uint32_t i = 0; i < stales; i++)
        scan->stales.at[scan->stales.count++] =
            (struct stale_entry) { .inode = s->inode,
                                   .data = take_number(bytes, 8),
                                   .set = take_below(bytes, PROCESSES),
                                   .fd = take_byte(bytes),
                                   .events = (uint32_t) take_number(bytes, 4) };
    s->findings |= stales ? 1u << FOUND_STALE : 0;
}

static int by_inode(const void *a, const void *b)
{
    const struct stale_entry *x = a, *y = b;

    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* ---- what is printed ---- */

struct page {
    FILE *out;
    char *text;
    size_t size;
};

static void page_begin(struct page *page)
{
    page->out = open_memstream(&page->text, &page->size);
    must(page->out, "memory");
}

static void page_end(struct page *page)
{
    must(fclose(page->out) == 0, "memory");
    must(strlen(page->text) == page->size, "no zero byte is printed");
    must(is_harmless(page->text), "no control character is printed");
}

static void print_text(const struct snapshot *snapshot, const struct ps_rows *rows, size_t width)
{
    struct page page;

    page_begin(&page);
    ps_text_rows(page.out, snapshot, rows, width & 1, width);
    ps_text_summary(page.out, snapshot, rows, width);
    ps_text_advice(page.out, rows, width);
    page_end(&page);
    free(page.text);
}

static void print_json(const struct snapshot *snapshot, const struct ps_rows *rows, bool compact)
{
    struct page page;
    json_t *value;

    page_begin(&page);
    must(ps_json_print(page.out, snapshot, rows, compact ? GROUP_NONE : GROUP_REMOTE, compact) == 0,
         "JSON can be printed");
    page_end(&page);
    value = json_loads(page.text, 0, NULL);
    must(json_is_array(json_object_get(value, compact ? "sockets" : "groups")), "JSON is whole");
    must(!compact || json_array_size(json_object_get(value, "sockets")) == rows->rows.count,
         "JSON has all rows");
    json_decref(value);
    free(page.text);
}

static void print_metrics(const struct snapshot *snapshot, struct bytes *bytes)
{
    struct export_options o = { .commands = 1 + take_below(bytes, 4) };
    struct page page;

    o.ports.count = take_below(bytes, 3);
    for (size_t i = 0; i < o.ports.count; i++)
        o.ports.at[i] = (uint32_t) take_number(bytes, 2);
    page_begin(&page);
    must(metrics_print(page.out, snapshot, &o) == 0, "metrics can be printed");
    page_end(&page);
    free(page.text);
}

static void print_all(const struct snapshot *snapshot, struct bytes *bytes)
{
    struct ps_options o = { .protocols = ~0u, .states = ~0u };
    struct ps_rows rows;

    o.sort = (enum ps_sort) take_below(bytes, PS_SORTS);
    must(ps_rows_pick(snapshot, &o, &rows) == 0, "rows can be picked");
    must(rows.rows.count == snapshot->dump.sockets.count, "all are picked");
    print_text(snapshot, &rows, take_byte(bytes));
    print_json(snapshot, &rows, o.sort & 1);
    ps_rows_free(&rows);
    print_metrics(snapshot, bytes);
}

/* ---- a look ---- */

static const struct {
    struct nlmsghdr header;
    int error;
} done = { { .nlmsg_len = NLMSG_LENGTH(sizeof(int)), .nlmsg_type = NLMSG_DONE }, 0 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, size }, list;
    struct snapshot snapshot = { .at_ns = 1 };

    list.left = (size_t) take_number(&bytes, 2);
    list.left = list.left < bytes.left ? list.left : bytes.left;
    list.at = bytes.at;
    bytes.at += list.left;
    bytes.left -= list.left;
    netlink_feed(&list, &done, sizeof done);
    (void) dump_sockets(&snapshot.dump);
    snapshot.blind.refused = snapshot.dump.refused;
    take_processes(&bytes, &snapshot);
    for (size_t i = 0; i < snapshot.dump.sockets.count; i++) {
        take_holders(&bytes, &snapshot, &snapshot.dump.sockets.at[i]);
        take_stale(&bytes, &snapshot, &snapshot.dump.sockets.at[i]);
    }
    if (snapshot.scan.stales.count)
        qsort(snapshot.scan.stales.at, snapshot.scan.stales.count, sizeof *snapshot.scan.stales.at,
              by_inode);
    judge(&snapshot);
    print_all(&snapshot, &bytes);
    snapshot_free(&snapshot);
    return 0;
}
