/* SPDX-License-Identifier: MIT */

#include "support.h"

#include "base/errors.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- names ---- */

typedef const char *name_fn(int value);

static void assert_names(name_fn *name, int count, const char *expected)
{
    char all[256] = "";

    for (int i = 0; i < count; i++) {
        strcat(all, name(i));
        strcat(all, " ");
    }
    assert_string_equal(all, expected);
    assert_string_equal(name(-1), "?");
    assert_string_equal(name(count), "?");
    assert_string_equal(name(INT_MIN), "?");
    assert_string_equal(name(INT_MAX), "?");
}

static void test_names(void **state)
{
    (void) state;
    assert_names(fin_stage_name, FIN_STAGES,
                 "requested flushed notified answered shut acked eof unwatched released "
                 "unreferenced finished gone ");
    assert_names(fin_outcome_name, FIN_OUTCOMES,
                 "graceful prompt truncated timed_out reset error aborted bounded ");
    assert_names(fin_phase_name, FIN_PHASE_LINGER + 1, "none flush farewell linger ");
    assert_names(fin_end_name, FIN_END_KERNEL + 1, "none fin reset kernel ");
    assert_names(fin_answer_name, FIN_UNVERIFIABLE + 1, "no yes unverifiable ");
    assert_names(fin_courtesy_name, FIN_COURTESY_FULL + 1, "abort prompt orderly full ");
    assert_names(fin_scope_name, FIN_SCOPE_DESCRIPTOR + 1, "default connection descriptor ");
    assert_names(fin_kind_name, FIN_KIND_UNIX + 1, "pipe tcp mptcp udp unix ");
    assert_names(fin_search_name, FIN_SEARCH_CUT + 1, "none found invisible blind cut ");
}

static void test_version(void **state)
{
    int major, minor, patch, length = 0;

    (void) state;
    assert_string_equal(fin_version(), FIN_VERSION);
    assert_int_equal(sscanf(fin_version(), "%d.%d.%d%n", &major, &minor, &patch, &length), 3);
    assert_int_equal(length, strlen(fin_version()));
}

/* ---- format ---- */

static struct fin_receipt empty(void)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    receipt.outcome = FIN_OUTCOME_GRACEFUL;
    memset(receipt.stage_ns, -1, sizeof receipt.stage_ns);
    receipt.stage_ns[FIN_STAGE_REQUESTED] = 0;
    return receipt;
}

/* The package's receipts read the same: tests/python/test_values.py looks for these lines. */
static void assert_line(const struct fin_receipt *receipt, const char *expected)
{
    char line[1024];

    assert_int_equal(fin_receipt_format(receipt, line, sizeof line), strlen(expected));
    assert_string_equal(line, expected);
}

static void test_format_least(void **state)
{
    struct fin_receipt receipt = empty();

    (void) state;
    assert_line(&receipt, "graceful, end=none, held=no:");
}

static struct fin_receipt full(void)
{
    struct fin_receipt receipt = empty();

    receipt.outcome = FIN_OUTCOME_TIMED_OUT;
    receipt.phase = FIN_PHASE_LINGER;
    receipt.end = FIN_END_KERNEL;
    receipt.held = FIN_UNVERIFIABLE;
    receipt.error = -EIO;
    receipt.stage_ns[FIN_STAGE_FLUSHED] = 500;
    receipt.stage_ns[FIN_STAGE_SHUT] = 999900;
    receipt.stage_ns[FIN_STAGE_UNWATCHED] = 1000000;
    receipt.stage_ns[FIN_STAGE_RELEASED] = 2500000000;
    receipt.unverifiable = 1u << FIN_STAGE_ACKED | 1u << FIN_STAGE_UNREFERENCED;
    receipt.unsent = 1;
    receipt.unacked = 22;
    receipt.discarded = 333;
    receipt.accepted = UINT64_MAX;
    return receipt;
}

static const char full_line[] = "timed_out in linger, end=kernel, held=unverifiable: flushed=0.5us "
                                "shut=999.9us acked=? unwatched=1.0ms released=2.50s "
                                "unreferenced=? unsent=1 unacked=22 discarded=333 "
                                "accepted=18446744073709551615 error=EIO";

static void test_format_full(void **state)
{
    struct fin_receipt receipt = full();

    (void) state;
    assert_line(&receipt, full_line);
}

/* Like snprintf(3): any size will do, the result is that of the whole line. */
static void test_format_cut(void **state)
{
    struct fin_receipt receipt = full();
    size_t length = sizeof full_line - 1;
    char line[512];

    (void) state;
    assert_int_equal(fin_receipt_format(&receipt, NULL, 0), length);
    for (size_t size = 0; size <= length + 2; size++) {
        size_t kept = size <= length ? size - 1 : length;

        memset(line, 0x5a, sizeof line);
        assert_int_equal(fin_receipt_format(&receipt, line, size), length);
        if (size > 0) {
            assert_memory_equal(line, full_line, kept);
            assert_int_equal(line[kept], '\0');
        }
        for (size_t i = size; i < sizeof line; i++)
            assert_int_equal(line[i], 0x5a);
    }
}

/* A receipt that is out of its ranges prints too, and nothing is read past its end. */
static void test_format_nonsense(void **state)
{
    struct fin_receipt receipt;
    char line[2048];

    (void) state;
    memset(&receipt, 0xff, sizeof receipt);
    receipt.size = sizeof receipt;
    assert_true(fin_receipt_format(&receipt, line, sizeof line) > 0);
    assert_non_null(strstr(line, "? in ?, end=?, held=?:"));
    memset(&receipt, 0x7f, sizeof receipt);
    receipt.size = sizeof receipt;
    receipt.error = -99999; /* no errno has this name */
    assert_true(fin_receipt_format(&receipt, line, sizeof line) > 0);
    assert_null(strstr(line, "(null)"));
}

static void test_format_holders(void **state)
{
    struct fin_receipt receipt = empty();

    (void) state;
    receipt.held = FIN_YES;
    receipt.search = FIN_SEARCH_INVISIBLE;
    assert_line(&receipt, "graceful, end=none, held=yes:; held by an invisible holder");
    receipt.search = FIN_SEARCH_FOUND;
    receipt.holders = 1;
    receipt.holder[0] = (struct fin_holder) { 42, 7, "wor\x1bker" };
    assert_line(&receipt, "graceful, end=none, held=yes:; held by 42/wor\\x1bker fd 7");
    receipt.search = FIN_SEARCH_CUT;
    assert_line(
        &receipt,
        "graceful, end=none, held=yes:; held by 42/wor\\x1bker fd 7, and the search was cut");
    receipt.holders = 0;
    assert_line(&receipt,
                "graceful, end=none, held=yes:; held, and there was no time to search by whom");
    receipt.search = FIN_SEARCH_BLIND;
    receipt.forced = receipt.tombstone = 1;
    assert_line(&receipt,
                "graceful, end=none, held=yes: forced tombstone; held, and could not "
                "look everywhere by whom");
    receipt.search = FIN_SEARCH_FOUND;
    receipt.holders = FIN_RECEIPT_HOLDERS + 2;
    for (int i = 0; i < FIN_RECEIPT_HOLDERS; i++)
        receipt.holder[i] = (struct fin_holder) { i + 1, i, "a" };
    assert_line(&receipt,
                "graceful, end=none, held=yes: forced tombstone; held by 1/a fd 0, "
                "2/a fd 1, 3/a fd 2, 4/a fd 3, +2 more");
}

static void test_json(void **state)
{
    static const char expected[] =
        "{\"outcome\": \"timed_out\", \"phase\": \"linger\", \"end\": \"kernel\", \"held\": "
        "\"unverifiable\", \"stages\": {\"requested\": 0, \"flushed\": 500, \"notified\": null, "
        "\"answered\": null, \"shut\": 999900, \"acked\": null, \"eof\": null, \"unwatched\": "
        "1000000, \"released\": 2500000000, \"unreferenced\": null, \"finished\": null, \"gone\": "
        "null}, \"unverifiable\": [\"acked\", \"unreferenced\"], \"unsent\": 1, \"unacked\": 22, "
        "\"discarded\": 333, \"accepted\": 18446744073709551615, \"forced\": false, \"tombstone\": "
        "true, \"search\": \"found\", \"holders\": [{\"pid\": 42, \"fd\": 7, \"command\": "
        "\"a\\\"b\\\\x1b\\\\x5c\"}], \"holder_count\": 1, \"error\": \"EIO\", "
        "\"kind\": \"tcp\", \"local\": \"127.0.0.1:80\", \"remote\": null}";
    struct fin_receipt receipt = full();
    char text[2000];
    int length;

    (void) state;
    receipt.tombstone = 1;
    receipt.search = FIN_SEARCH_FOUND;
    receipt.holders = 1;
    receipt.holder[0] = (struct fin_holder) { 42, 7, "a\"b\x1b\\" };
    receipt.kind = FIN_KIND_TCP;
    receipt.family = AF_INET;
    receipt.local_port = 80;
    memcpy(receipt.local, (const uint8_t[]) { 127, 0, 0, 1 }, 4);
    length = fin_receipt_json(&receipt, text, sizeof text);
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
    assert_int_equal(fin_receipt_json(&receipt, NULL, 0), length);
    assert_int_equal(fin_receipt_json(&receipt, text, 11), length);
    assert_string_equal(text, "{\"outcome\"");
    assert_int_equal(fin_receipt_json(NULL, text, sizeof text), -EINVAL);
    receipt.size--;
    assert_int_equal(fin_receipt_json(&receipt, text, sizeof text), -EINVAL);
}

/* As the C library has them, where it tells. */
static void test_error_names(void **state)
{
    (void) state;
    for (int error = -1; error < 5000; error++) {
        const char *expected = error > 0 ? strerrorname_np(error) : NULL, *name;

        name = fin__error_name(error);
        assert_true(name ? expected && strcmp(name, expected) == 0 : !expected);
    }
}

/* A program may hand in a receipt that no close filled: nothing behind it is read, nor behind a
 * command. */
static void test_format_at_the_end_of_a_page(void **state)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct fin_receipt *receipt = (void *) (pages + page - sizeof *receipt);
    char line[512];

    (void) state;
    assert_ptr_not_equal(pages, MAP_FAILED);
    assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
    *receipt = empty();
    receipt->held = FIN_YES;
    receipt->search = FIN_SEARCH_FOUND;
    receipt->holders = FIN_RECEIPT_HOLDERS;
    receipt->kind = 'A';
    for (int i = 0; i < FIN_RECEIPT_HOLDERS; i++) {
        receipt->holder[i].pid = 'A';
        memset(receipt->holder[i].command, 'x', sizeof receipt->holder[i].command);
    }
    assert_true(fin_receipt_format(receipt, line, sizeof line) > 0);
    assert_string_equal(strstr(line, ";"),
                        "; held by 65/xxxxxxxxxxxxxxxx fd 0, 65/xxxxxxxxxxxxxxxx fd 0, "
                        "65/xxxxxxxxxxxxxxxx fd 0, 65/xxxxxxxxxxxxxxxx fd 0");
    assert_int_equal(munmap(pages, 2 * page), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_names),          GUARDED(test_version),
        GUARDED(test_format_least),   GUARDED(test_format_full),
        GUARDED(test_format_cut),     GUARDED(test_format_nonsense),
        GUARDED(test_format_holders), GUARDED(test_format_at_the_end_of_a_page),
        GUARDED(test_json),           GUARDED(test_error_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
