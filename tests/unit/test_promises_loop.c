/* SPDX-License-Identifier: MIT */

/* The errnos of finack/loop.h. */

#include "promises.h"

#include <errno.h>
#include <sys/mman.h>

static void observe(enum fin_selector_change change, const struct fin_registration *registration,
                    void *arg)
{
    (void) change;
    (void) registration;
    (void) arg;
}

CALL(selector_null, fin_selector_new(NULL))
CALL(register_null, fin_selector_register(NULL, lab->us, FIN_READ, NULL))
CALL(register_free, fin_selector_register(lab->selector, 99, FIN_READ, NULL))
CALL(register_us, fin_selector_register(lab->selector, lab->us, FIN_READ, NULL))
CALL(modify_null, fin_selector_modify(NULL, lab->us, FIN_READ, NULL))
CALL(modify_nothing, fin_selector_modify(lab->selector, lab->us, FIN_READ, NULL))
CALL(unregister_null, fin_selector_unregister(NULL, lab->us, NULL))
CALL(unregister_nothing, fin_selector_unregister(lab->selector, lab->us, NULL))
CALL(get_null, fin_selector_get(lab->selector, lab->us, NULL))
CALL(select_null, fin_selector_select(lab->selector, NULL, 1, 0))
CALL(is_current_null, fin_selector_is_current(lab->selector, NULL))
CALL(observe_null, fin_selector_observe(lab->selector, NULL, NULL))
CALL(unobserve_null, fin_selector_unobserve(NULL, observe, NULL))
CALL(unobserve_nothing, fin_selector_unobserve(lab->selector, observe, NULL))
IN_CHILD(register_in_child, register_us)

static int64_t selector_new(struct lab *lab)
{
    struct fin_selector *selector = NULL;
    int result;

    arm(lab);
    result = fin_selector_new(&selector);
    disarm();
    return result;
}

static int64_t register_twice(struct lab *lab)
{
    assert_int_equal(register_us(lab), 0);
    return register_us(lab);
}

static int64_t register_file(struct lab *lab)
{
    int fd = memfd_create("file", MFD_CLOEXEC), result;

    result = fin_selector_register(lab->selector, fd, FIN_READ, NULL);
    drop_all(fd, -1);
    return result;
}

static int64_t register_armed(struct lab *lab)
{
    int64_t result;

    arm(lab);
    result = register_us(lab);
    disarm();
    return result;
}

static int64_t modify_closed(struct lab *lab)
{
    int fd = lab->us;

    assert_int_equal(register_us(lab), 0);
    drop_all(fd, -1);
    lab->us = -1;
    return fin_selector_modify(lab->selector, fd, FIN_WRITE, NULL);
}

static int64_t get_nothing(struct lab *lab)
{
    struct fin_registration found = { .size = sizeof found };

    return fin_selector_get(lab->selector, lab->us, &found);
}

static int64_t select_some(struct lab *lab)
{
    struct fin_ready ready;
    int result;

    arm(lab);
    result = fin_selector_select(lab->selector, &ready, 1, 5);
    disarm();
    return result;
}

IN_CHILD(select_in_child, select_some)

static int64_t observe_armed(struct lab *lab)
{
    int result;

    arm(lab);
    result = fin_selector_observe(lab->selector, observe, NULL);
    disarm();
    return result;
}

static const struct row rows[] = {
    { "fin_selector_new", EINVAL, selector_null, NULL },
    { "fin_selector_new", ENOMEM, selector_new, MEMORY },
    { "fin_selector_new", EMFILE, selector_new, "epoll_create1" },
    { "fin_selector_new", ENFILE, selector_new, "epoll_create1" },
    { "fin_selector_register", EINVAL, register_null, NULL },
    { "fin_selector_register", EEXIST, register_twice, NULL },
    { "fin_selector_register", EBADF, register_free, NULL },
    { "fin_selector_register", EPERM, register_file, NULL },
    { "fin_selector_register", ENOMEM, register_armed, MEMORY },
    { "fin_selector_register", ENOSPC, register_armed, "epoll_ctl" },
    { "fin_selector_register", ECHILD, register_in_child, NULL },
    { "fin_selector_modify", EINVAL, modify_null, NULL },
    { "fin_selector_modify", ENOENT, modify_nothing, NULL },
    { "fin_selector_modify", EBADF, modify_closed, NULL },
    { "fin_selector_unregister", EINVAL, unregister_null, NULL },
    { "fin_selector_unregister", ENOENT, unregister_nothing, NULL },
    { "fin_selector_get", EINVAL, get_null, NULL },
    { "fin_selector_get", ENOENT, get_nothing, NULL },
    { "fin_selector_select", EINVAL, select_null, NULL },
    { "fin_selector_select", EINTR, select_some, "epoll_wait" },
    { "fin_selector_select", ECHILD, select_in_child, NULL },
    { "fin_selector_is_current", EINVAL, is_current_null, NULL },
    { "fin_selector_observe", EINVAL, observe_null, NULL },
    { "fin_selector_observe", ENOMEM, observe_armed, MEMORY },
    { "fin_selector_unobserve", EINVAL, unobserve_null, NULL },
    { "fin_selector_unobserve", ENOENT, unobserve_nothing, NULL },
};

int main(void)
{
    return promises_main(rows, sizeof rows / sizeof *rows, HEADERS "/finack/loop.h");
}
