/* SPDX-License-Identifier: MIT */

#include "promises.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what there is to call on ---- */

static void *no_memory(size_t size)
{
    (void) size;
    return NULL;
}

void arm(struct lab *lab)
{
    lab->armed =
        (struct fault) { .call = lab->fault, .error = lab->error, .from = 1, .lasting = true };
    if (lab->fault && strcmp(lab->fault, MEMORY) == 0)
        fin__allocator.alloc = no_memory;
    else if (lab->fault)
        fault_arm(&lab->armed);
}

void disarm(void)
{
    fin__allocator.alloc = malloc;
    (void) fault_disarm();
}

static void lab_open(struct lab *lab)
{
    int fds[2];

    memset(lab, 0, sizeof *lab);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    lab->us = fds[US];
    lab->them = fds[THEM];
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    lab->other = fds[US];
    lab->far = fds[THEM];
    lab->set = lab->survivor = -1;
    lab->policy = policy_hasty(FIN_COURTESY_PROMPT);
    lab->receipt = (struct fin_receipt) FIN_RECEIPT_INIT;
    lab->id = (struct fin_identity) FIN_IDENTITY_INIT;
    assert_int_equal(fin_identify(lab->us, &lab->id), 0);
    assert_int_equal(fin_kernel_new(&lab->kernel), 0);
    assert_int_equal(fin_handle_new(lab->other, &lab->handle), 0);
    assert_int_equal(fin_closer_new(NULL, &lab->closer), 0);
    assert_int_equal(fin_selector_new(&lab->selector), 0);
}

static void lab_close(struct lab *lab)
{
    if (lab->us >= 0) {
        assert_int_equal(fin_is(lab->us, &lab->id), 1); /* the caller's, unchanged */
        drop_all(lab->us, -1);
    }
    if (lab->set >= 0)
        drop_all(lab->set, -1);
    if (lab->survivor >= 0)
        drop_all(lab->survivor, -1);
    (void) fin_closer_free(lab->closer);
    (void) fin_selector_free(lab->selector);
    (void) fin_handle_free(lab->handle);
    (void) fin_kernel_free(lab->kernel);
    drop_all(lab->them, lab->far, -1);
}

/* ---- in a child ---- */

struct errand {
    struct lab *lab;
    int64_t (*call)(struct lab *lab);
};

static bool run_errand(void *arg)
{
    const struct errand *errand = arg;

    return errand->call(errand->lab) == -ECHILD;
}

int64_t in_child(struct lab *lab, int64_t (*call)(struct lab *lab))
{
    struct errand errand = { lab, call };

    child_join(child_start(run_errand, &errand));
    return -ECHILD;
}

/* ---- a row ---- */

static void test_row(void **state)
{
    const struct row *row = *state;
    struct lab lab;
    int64_t result;

    busy(); /* some read all of /proc */
    lab_open(&lab);
    lab.fault = row->fault;
    lab.error = row->error;
    result = row->provoke(&lab);
    lab_close(&lab);
    if (result != -row->error)
        print_error("%s() gave %d, and not %s\n", row->call, (int) result,
                    strerrorname_np(row->error));
    assert_int_equal(result, -row->error);
}

/* ---- none is forgotten, and none is made up ---- */

#define ROWS_MAX 160

static struct {
    const struct row *row;
    size_t count;
    const char *header;
    bool seen[ROWS_MAX];
} table;

static bool note_promise(const char *call, const char *name)
{
    for (size_t i = 0; i < table.count; i++)
        if (strcmp(table.row[i].call, call) == 0
            && strcmp(strerrorname_np(table.row[i].error), name) == 0) {
            table.seen[i] = true;
            return true;
        }
    print_error("%s() promises %s, and no row shows it\n", call, name);
    return false;
}

/* The errnos behind "Errors:" in a comment, for the function `call`. */
static bool note_promises(const char *comment, const char *call)
{
    const char *at = strstr(comment, "Errors:");
    char name[32];
    bool fine = true;

    while (at && (at = strstr(at, "-E"))) {
        if (sscanf(at + 1, "%31[A-Z]", name) == 1 && name[1])
            fine &= note_promise(call, name);
        at += 2;
    }
    return fine;
}

/* The name in a declaration, if it returns a number. */
static bool name_of(const char *line, char name[64])
{
    const char *at = strstr(line, "fin_");

    if (strncmp(line, "FIN_API ", 8) != 0 || strncmp(line, "FIN_API void", 12) == 0)
        return false;
    while (at && (sscanf(at, "%63[a-z_0-9]", name) != 1 || at[strlen(name)] != '('))
        at = strstr(at + 1, "fin_");
    return at;
}

static bool check_header(const char *path)
{
    char line[512], name[64];
    static char comment[16384];
    FILE *file = fopen(path, "r");
    bool fine = true, inside = false;

    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "/*", 2) == 0)
            comment[0] = '\0';
        inside = strncmp(line, "/*", 2) == 0 || inside;
        if (inside)
            strncat(comment, line, sizeof comment - strlen(comment) - 1);
        if (strstr(line, "*/"))
            inside = false;
        if (name_of(line, name))
            fine &= note_promises(comment, name);
    }
    assert_int_equal(fclose(file), 0);
    return fine;
}

static void test_headers(void **state)
{
    bool fine;

    (void) state;
    fine = check_header(table.header);
    for (size_t i = 0; i < table.count; i++)
        if (!table.seen[i]) {
            print_error("no header promises %s of %s()\n", strerrorname_np(table.row[i].error),
                        table.row[i].call);
            fine = false;
        }
    assert_true(fine);
}

int promises_main(const struct row *rows, size_t count, const char *header)
{
    static char names[ROWS_MAX][64];
    struct CMUnitTest tests[ROWS_MAX + 1] = { GUARDED(test_headers) };

    assert(count <= ROWS_MAX);
    table.row = rows;
    table.count = count;
    table.header = header;
    for (size_t i = 0; i < count; i++) {
        (void) snprintf(names[i], sizeof names[i], "%s %s", rows[i].call,
                        strerrorname_np(rows[i].error));
        tests[i + 1] =
            (struct CMUnitTest) { names[i], test_row, guard_begin, guard_end, (void *) &rows[i] };
    }
    own_network();
    return _cmocka_run_group_tests("promises", tests, count + 1, NULL, NULL);
}
