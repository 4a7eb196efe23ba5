/* SPDX-License-Identifier: MIT */

/* What the cgroup of a process says of its container. */

#include "sockets/container.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define POD "12345678-90ab-cdef-1234-567890abcdef"
#define POD_ "12345678_90ab_cdef_1234_567890abcdef"

static const struct {
    const char *text, *cgroup, *id, *pod;
} cases[] = {
    { "", "", "", "" },
    { "0::/\n", "/", "", "" },
    { "0::/system.slice/ssh.service\n", "/system.slice/ssh.service", "", "" },
    { "0::/system.slice/docker-" ID ".scope\n", "/system.slice/docker-" ID ".scope", ID, "" },
    { "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" POD_
      ".slice/cri-containerd-" ID ".scope\n",
      "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" POD_
      ".slice/cri-containerd-" ID ".scope",
      ID, POD },
    { "0::/kubepods/besteffort/pod" POD "/" ID "\n", "/kubepods/besteffort/pod" POD "/" ID, ID,
      POD },
    { "12:cpu:/a\n1:name=systemd:/docker/" ID "\n0::/\n", "/docker/" ID, ID, "" },
    { "0::/x/" ID "0\n", "/x/" ID "0", "", "" },
};

static void test_each(void **state)
{
    struct container c;

    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        container_parse(cases[i].text, &c);
        assert_string_equal(c.cgroup, cases[i].cgroup);
        assert_string_equal(c.id, cases[i].id);
        assert_string_equal(c.pod, cases[i].pod);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_each) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
