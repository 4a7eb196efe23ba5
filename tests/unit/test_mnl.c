/* SPDX-License-Identifier: MIT */

/* What stands in for libmnl where that is not linked, on messages that the kernel would not
 * send. */

#include "support.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <limits.h>
#include <string.h>

union buffer {
    char bytes[512];
    struct nlmsghdr message;
};

static struct nlmsghdr *make(union buffer *buf, uint16_t type, const void *payload, size_t size)
{
    struct nlmsghdr *message = mnl_nlmsg_put_header(buf->bytes);

    message->nlmsg_type = type;
    memcpy(mnl_nlmsg_put_extra_header(message, size), payload, size);
    return message;
}

static int count_messages(const struct nlmsghdr *message, void *arg)
{
    int *count = arg;

    (void) message;
    return ++*count < 3 ? MNL_CB_OK : MNL_CB_STOP;
}

/* Returns what mnl_cb_run() does, or a negative errno. */
static int run(const void *buf, size_t size, int *count)
{
    int result;

    *count = 0;
    errno = 0;
    result = mnl_cb_run(buf, size, 7, 9, count_messages, count);
    return result < 0 ? -errno : result;
}

static void test_messages(void **state)
{
    union buffer buf;
    struct nlmsghdr *message = make(&buf, NLMSG_MIN_TYPE, "abcde", 5);
    int count;

    (void) state;
    assert_int_equal(message->nlmsg_len, NLMSG_HDRLEN + 8);
    assert_int_equal(mnl_nlmsg_get_payload_len(message), 8);
    assert_memory_equal(mnl_nlmsg_get_payload(message), "abcde\0\0", 8);
    for (size_t i = 1; i < 5; i++)
        memcpy(buf.bytes + i * message->nlmsg_len, buf.bytes, message->nlmsg_len);
    assert_int_equal(run(&buf, 2 * message->nlmsg_len, &count), MNL_CB_OK);
    assert_int_equal(count, 2);
    assert_int_equal(run(&buf, 5 * message->nlmsg_len, &count), MNL_CB_STOP);
    assert_int_equal(count, 3);
    assert_int_equal(run(&buf, message->nlmsg_len - 1, &count), MNL_CB_OK);
    assert_int_equal(count, 0);
}

static void test_who_is_answered(void **state)
{
    union buffer buf;
    struct nlmsghdr *message = make(&buf, NLMSG_MIN_TYPE, "", 0);
    int count;

    (void) state;
    message->nlmsg_pid = 8;
    assert_int_equal(run(&buf, message->nlmsg_len, &count), -ESRCH);
    message->nlmsg_pid = 9;
    message->nlmsg_seq = 6;
    assert_int_equal(run(&buf, message->nlmsg_len, &count), -EPROTO);
    message->nlmsg_seq = 7;
    assert_int_equal(run(&buf, message->nlmsg_len, &count), MNL_CB_OK);
    assert_int_equal(count, 1);
    message->nlmsg_flags = NLM_F_DUMP_INTR;
    assert_int_equal(run(&buf, message->nlmsg_len, &count), -EINTR);
}

static void test_control(void **state)
{
    const struct {
        int error, result;
    } errors[] = {
        { 0, MNL_CB_STOP },    { -ENOENT, -ENOENT },   { ENOENT, -ENOENT },
        { INT_MAX, -INT_MAX }, { -INT_MAX, -INT_MAX },
    };
    union buffer buf;
    struct nlmsghdr *message;
    int count;

    (void) state;
    message = make(&buf, NLMSG_NOOP, "", 0);
    assert_int_equal(run(&buf, message->nlmsg_len, &count), MNL_CB_OK);
    message = make(&buf, NLMSG_DONE, "", 0);
    assert_int_equal(run(&buf, message->nlmsg_len, &count), MNL_CB_STOP);
    message = make(&buf, NLMSG_ERROR, "1234", 4);
    assert_int_equal(run(&buf, message->nlmsg_len, &count), -EBADMSG);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct nlmsgerr error = { .error = errors[i].error };

        message = make(&buf, NLMSG_ERROR, &error, sizeof error);
        assert_int_equal(run(&buf, message->nlmsg_len, &count), errors[i].result);
        assert_int_equal(count, 0);
    }
}

static int sum(const struct nlattr *attribute, void *arg)
{
    uint32_t *total = arg;

    if (mnl_attr_validate(attribute, MNL_TYPE_U32) < 0)
        return MNL_CB_ERROR;
    *total += mnl_attr_get_u32(attribute) * mnl_attr_get_type(attribute);
    return MNL_CB_OK;
}

static void test_attributes(void **state)
{
    struct {
        uint16_t length, type;
        uint32_t value;
    } attributes[] = { { 8, 1, 10 }, { 8, 2 | NLA_F_NESTED, 20 }, { 8, 3, 30 } };
    union buffer buf;
    struct nlmsghdr *message = make(&buf, NLMSG_MIN_TYPE, attributes, sizeof attributes);
    uint32_t total = 0;

    (void) state;
    assert_int_equal(mnl_attr_parse(message, 0, sum, &total), MNL_CB_OK);
    assert_int_equal(total, 10 + 40 + 90);
    total = 0;
    assert_int_equal(mnl_attr_parse(message, 5, sum, &total), MNL_CB_OK);
    assert_int_equal(total, 40 + 90);
    assert_int_equal(mnl_attr_parse(message, 100, sum, &total), MNL_CB_OK);
    assert_int_equal(total, 40 + 90);
    attributes[0].length = 6;
    message = make(&buf, NLMSG_MIN_TYPE, attributes, sizeof attributes);
    assert_int_equal(mnl_attr_parse(message, 0, sum, &total), MNL_CB_ERROR);
    assert_int_equal(errno, ERANGE);
}

/* Lengths that lead nowhere, or behind what there is, end the list. */
static void test_attributes_that_are_wrong(void **state)
{
    static const uint16_t lengths[] = { 0, 3, 17, UINT16_MAX };
    struct {
        uint16_t length, type;
        uint32_t value;
    } attributes[] = { { 0, 1, 10 }, { 8, 2, 20 } };

    (void) state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        union buffer buf;
        uint32_t total = 0;

        attributes[0].length = lengths[i];
        assert_int_equal(mnl_attr_parse(make(&buf, NLMSG_MIN_TYPE, attributes, sizeof attributes),
                                        0, sum, &total),
                         MNL_CB_OK);
        assert_int_equal(total, 0);
    }
}

static void test_socket(void **state)
{
    struct mnl_socket *one, *other;
    char buf[1];
    union buffer question;
    struct nlmsghdr *request = make(&question, NLMSG_MIN_TYPE + 100, "", 0);

    (void) state;
    assert_null(mnl_socket_open2(-1, SOCK_CLOEXEC));
    assert_int_equal(errno, EPROTONOSUPPORT);
    one = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC | SOCK_NONBLOCK);
    other = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_non_null(one);
    assert_non_null(other);
    assert_int_equal(mnl_socket_bind(one, 0, MNL_SOCKET_AUTOPID), 0);
    assert_int_not_equal(mnl_socket_get_portid(one), 0);
    assert_int_equal(mnl_socket_bind(other, 0, (pid_t) mnl_socket_get_portid(one)), -1);
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(mnl_socket_recvfrom(one, buf, sizeof buf), -1);
    assert_int_equal(errno, EAGAIN);
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    assert_int_equal(mnl_socket_sendto(one, request, request->nlmsg_len), request->nlmsg_len);
    assert_int_equal(mnl_socket_recvfrom(one, buf, sizeof buf), -1);
    assert_int_equal(errno, ENOSPC);
    mnl_socket_close(one);
    mnl_socket_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_messages),   GUARDED(test_who_is_answered),           GUARDED(test_control),
        GUARDED(test_attributes), GUARDED(test_attributes_that_are_wrong), GUARDED(test_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
