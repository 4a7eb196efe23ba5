/* SPDX-License-Identifier: MIT */

#include "trace/rust_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static void test_paths_are_told(void **state)
{
    static const char *const names[][2] = {
        { "_RNvC6_123foo3bar", "123foo::bar" },
        { "_RNvCs1234_7mycrate3foo", "mycrate::foo" },
        { "_RNvNtCs1234_7mycrate3net4dial", "mycrate::net::dial" },
        { "_RNCNCNgCs6DXkGYLi8lr_2cc5spawn00B5_", "cc::spawn::{closure#0}::{closure#0}" },
        { "_RMC0INtC8arrayvec8ArrayVechKj7b_E", "<arrayvec::ArrayVec<u8, 123>>" },
        { "_RNCINkXs25_NgCsbmNqQUJIY6D_4core5sliceINyB9_4IterhENuNgNoBb_4iter8iterator8Iterator9"
          "rpositionNCNgNpB9_6memchr7memrchrs_0E0Bb_",
          "<core::slice::Iter<u8> as core::iter::iterator::Iterator>::rposition::<core::slice::"
          "memchr::memrchr::{closure#1}>::{closure#0}" },
        { "_RINbNbCskIICzLVDPPb_5alloc5alloc8box_freeDINbNiB4_5boxed5FnBoxuEp6OutputuEL_"
          "ECs1iopQbuBiw2_3std",
          "alloc::alloc::box_free::<dyn alloc::boxed::FnBox<(), Output = ()>>" },
        { "_RINvC1c1fTRhQmEAhj4_SPcE", "c::f::<(&u8, &mut u32), [u8; 4], [*const char]>" },
        { "_RINvC1c1fFUKChEuEE", "c::f::<unsafe extern \"C\" fn(u8)>" },
        { "_RINvC1c1fKb1_Kln2a_E", "c::f::<true, -42>" },
        { "_RNvC1c1f.llvm.1234", "c::f" },
    };
    char out[512];

    (void) state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(rust_demangle(names[i][0], out, sizeof out));
        assert_string_equal(out, names[i][1]);
    }
}

static void test_what_is_none_is_refused(void **state)
{
    static const char *const names[] = {
        "",
        "_",
        "_R",
        "_Rx",
        "_RC",
        "_RC99a",
        "_RNvC1c",
        "_RNvB_1a",
        "_RNvC1cs",
        "_ZN3foo3barE",
        "_RINvC1c1fK",
        "_RINvC1c1fKj",
        "_RNvC99999999999999999999a1b",
        "main",
        "_RINvC1c1fB_E",
    };
    char out[64];

    (void) state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_false(rust_demangle(names[i], out, sizeof out));
}

static void test_a_name_that_is_too_long_is_refused(void **state)
{
    char out[12];

    (void) state;
    assert_true(rust_demangle("_RNvC6_123foo3bar", out, sizeof out));
    assert_false(rust_demangle("_RNvC6_123foo3bar", out, sizeof out - 1));
}

/* A reference to what is at `place`, behind the prefix. */
static void refer(char *name, size_t place)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t number = place - 1;

    name += strlen(name);
    *name++ = 'B';
    if (number >= 62)
        *name++ = digits[number / 62];
    *name++ = digits[number % 62];
    strcpy(name, "_");
}

/* Each tuple holds the one before it twice. */
static void nest(char *name, unsigned levels)
{
    size_t last = strlen(strcpy(name, "_RINvC1c1f")) - 2;

    strcat(name, "Tuu");
    for (unsigned i = 1; i < levels; i++) {
        size_t here = strlen(name) - 1;

        strcat(strcat(name, "E"), "T");
        refer(name, last);
        refer(name, last);
        last = here;
    }
    strcat(name, "EE");
}

static void test_a_name_that_multiplies_itself_ends(void **state)
{
    char name[1024], out[1 << 16];

    (void) state;
    nest(name, 3);
    assert_true(rust_demangle(name, out, sizeof out));
    assert_string_equal(
        out,
        "c::f::<((), ()), (((), ()), ((), ())), ((((), ()), ((), ())), (((), ()), ((), ())))>");
    nest(name, 40);
    assert_false(rust_demangle(name, out, sizeof out));
    memset(name, 'N', sizeof name - 1);
    memcpy(name, "_R", 2);
    name[sizeof name - 1] = '\0';
    assert_false(rust_demangle(name, out, sizeof out));
}

static void test_names_before_v0(void **state)
{
    static const char *const names[][2] = {
        { "_ZN1m4main17h4009bc0cd8b193aaE", "m::main" },
        { "_ZN3std2rt10lang_start28_$u7b$$u7b$closure$u7d$$u7d$17h168e94e611939a97E",
          "std::rt::lang_start::{{closure}}" },
        { "_ZN48_$LT$m..pool..Gr$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE.llvm.7",
          "<m::pool::Gr as core::fmt::Debug>::fmt" },
        { "_ZN21$RF$$BP$mut$C$$u20ac$1a17h0123456789abcdefE", "&*mut,\xe2\x82\xac::a" },
        { "_ZN8$u0$$XY$1a17h0123456789abcdefE", "$u0$$XY$::a" },
    };
    static const char *const none[] = {
        "_ZN3net4SockC1Ei",
        "_ZN1m4mainE",
        "_ZN17h0123456789abcdefE",
        "_ZN1m4main17h0123456789abcdegE",
        "_ZN1m99999999999999999999main",
        "_ZN1m17h0123456789abcdef",
        "_ZN",
        "main",
    };
    char out[64];

    (void) state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(rust_demangle_legacy(names[i][0], out, sizeof out));
        assert_string_equal(out, names[i][1]);
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(rust_demangle_legacy(none[i], out, sizeof out));
    assert_false(rust_demangle_legacy(names[0][0], out, strlen("m::main")));
    assert_true(rust_demangle_legacy(names[0][0], out, strlen("m::main") + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_before_v0),
        cmocka_unit_test(test_paths_are_told),
        cmocka_unit_test(test_what_is_none_is_refused),
        cmocka_unit_test(test_a_name_that_is_too_long_is_refused),
        cmocka_unit_test(test_a_name_that_multiplies_itself_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
