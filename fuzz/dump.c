/* SPDX-License-Identifier: MIT */

/* The sockets that sock_diag(7) lists, on their whole way through `finack ps` and `finack export`,
 * with holders and epoll entries of any name and number. */

#include "export_options.h"
#include "judge.h"
#include "metrics.h"
#include "netlink_fake.h"
#include "ps_json.h"
#include "ps_rows.h"
#include "ps_text.h"

#include <jansson.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>

#define PROCESSES 3

/* ---- who has them ---- */

static void take_processes(struct bytes *bytes, struct look *look)
{
    struct scan *scan = &look->scan;

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

static void take_holders(struct bytes *bytes, struct look *look, struct socket *s)
{
    s->references = take_below(bytes, 5);
    s->first_reference = look->held.count;
    must(list_need(&look->held, s->references + 1) == 0, "memory");
    for (size_t i = 0; i < s->references; i++)
        look->held.at[look->held.count++] = (struct reference) {
            .inode = s->inode, .process = take_below(bytes, PROCESSES), .fd = take_byte(bytes)
        };
}

static void take_stale(struct bytes *bytes, struct look *look, struct socket *s)
{
    struct scan *scan = &look->scan;

    s->stales = take_below(bytes, 3);
    s->first_stale = scan->stales.count;
    must(list_need(&scan->stales, s->stales + 1) == 0, "memory");
    for (size_t i = 0; i < s->stales; i++)
        scan->stales.at[scan->stales.count++] =
            (struct stale_entry) { .inode = s->inode,
                                   .data = take_number(bytes, 8),
                                   .set = take_below(bytes, PROCESSES),
                                   .fd = take_byte(bytes),
                                   .events = (uint32_t) take_number(bytes, 4) };
    s->findings |= s->stales ? 1u << FOUND_STALE : 0;
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

static void print_text(const struct look *look, const struct ps_rows *rows, size_t width)
{
    struct page page;

    page_begin(&page);
    ps_text_rows(page.out, look, rows, width & 1, width);
    ps_text_summary(page.out, look, rows, width);
    page_end(&page);
    free(page.text);
}

static void print_json(const struct look *look, const struct ps_rows *rows, bool compact)
{
    struct page page;
    json_t *value;

    page_begin(&page);
    must(ps_json_print(page.out, look, rows, compact) == 0, "JSON can be printed");
    page_end(&page);
    value = json_loads(page.text, 0, NULL);
    must(json_array_size(json_object_get(value, "sockets")) == rows->rows.count,
         "JSON has all rows");
    json_decref(value);
    free(page.text);
}

static void print_metrics(const struct look *look, struct bytes *bytes)
{
    struct export_options o = { .commands = 1 + take_below(bytes, 4) };
    struct page page;

    o.ports.count = take_below(bytes, 3);
    for (size_t i = 0; i < o.ports.count; i++)
        o.ports.at[i] = (uint32_t) take_number(bytes, 2);
    page_begin(&page);
    must(metrics_print(page.out, look, &o) == 0, "metrics can be printed");
    page_end(&page);
    free(page.text);
}

static void print_all(const struct look *look, struct bytes *bytes)
{
    struct ps_options o = { .protocols = ~0u, .states = ~0u };
    struct ps_rows rows;

    o.sort = (enum ps_sort) take_below(bytes, PS_SORTS);
    must(ps_rows_pick(look, &o, &rows) == 0, "rows can be picked");
    must(rows.rows.count == look->dump.sockets.count, "all are picked");
    print_text(look, &rows, take_byte(bytes));
    print_json(look, &rows, o.sort & 1);
    ps_rows_free(&rows);
    print_metrics(look, bytes);
}

/* ---- a look ---- */

static const struct {
    struct nlmsghdr header;
    int error;
} done = { { .nlmsg_len = NLMSG_LENGTH(sizeof(int)), .nlmsg_type = NLMSG_DONE }, 0 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, size }, list;
    struct look look = { .at_ns = 1 };

    list.left = (size_t) take_number(&bytes, 2);
    list.left = list.left < bytes.left ? list.left : bytes.left;
    list.at = bytes.at;
    bytes.at += list.left;
    bytes.left -= list.left;
    netlink_feed(&list, &done, sizeof done);
    (void) dump_sockets(&look.dump);
    look.blind.refused = look.dump.refused;
    take_processes(&bytes, &look);
    for (size_t i = 0; i < look.dump.sockets.count; i++) {
        take_holders(&bytes, &look, &look.dump.sockets.at[i]);
        take_stale(&bytes, &look, &look.dump.sockets.at[i]);
    }
    judge(&look);
    print_all(&look, &bytes);
    look_free(&look);
    return 0;
}
