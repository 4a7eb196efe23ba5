/* SPDX-License-Identifier: MIT */

#include "common/command.h"
#include "common/say.h"
#include "end/options.h"
#include "sockets/ending.h"

#include <errno.h>
#include <finack.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int end_tell(const char *text)
{
    char line[1024];

    return put_out(line, (size_t) snprintf(line, sizeof line, "%s\n", text));
}

static int end_stays(const struct end_options *o, const char *what)
{
    char line[1000];

    snprintf(line, sizeof line, "%s\ndescriptor %d stays open in process %d until it closes it",
             what, o->fd, o->pid);
    return end_tell(line) ? EXIT_TROUBLE : EXIT_FINE;
}

static int end_report(const struct end_options *o, const struct fin_receipt *receipt)
{
    char text[900];

    (void) fin_receipt_format(receipt, text, sizeof text);
    if (end_stays(o, text))
        return EXIT_TROUBLE;
    return receipt->outcome == FIN_OUTCOME_GRACEFUL || o->reset ? EXIT_FINE : EXIT_FOUND;
}

static int end_finish(const struct end_options *o, struct ending *e)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    int result = ending_finish(e, o->reset, &receipt);

    if (result < 0)
        return complain("cannot end it: %s", strerror(-result));
    return end_report(o, &receipt);
}

static bool is_no_copy(int error)
{
    return error == -EPERM || error == -ENOSYS || error == -EACCES;
}

/* Without a copy of the descriptor nobody but the kernel can end it, and only by RST. */
static int end_by_kernel(const struct end_options *o, int error)
{
    struct ending e;
    int result = ending_find(&e, o->pid, o->fd, o->socket);

    if (result < 0)
        return ending_complain(o->pid, o->fd, is_no_copy(result) ? error : result);
    if (!o->reset)
        return complain("descriptor %d of process %d can't be copied (%s), which FIN needs; "
                        "with --reset the kernel resets the connection",
                        o->fd, o->pid, strerror(-error));
    result = end_tell(e.text);
    if (result || o->dry)
        return result;
    if (!o->yes && !ask("reset it?"))
        return EXIT_FOUND;
    result = ending_destroy(&e);
    if (result == -EOPNOTSUPP || result == -EPERM)
        return complain("descriptor %d of process %d can't be copied (%s), and the kernel %s",
                        o->fd, o->pid, strerror(-error),
                        result == -EPERM ? "resets it for CAP_NET_ADMIN alone"
                                         : "has no SOCK_DESTROY");
    return result < 0 ? ending_complain(o->pid, o->fd, result)
                      : end_stays(o, "reset by the kernel");
}

int end_main(int argc, char **argv)
{
    struct end_options o;
    struct ending e;
    int result;
    int parsed = end_options_parse(argc, argv, &o);

    if (parsed != PARSE_RUN)
        return parsed;
    result = ending_open(&e, o.pid, o.fd, o.socket);
    if (is_no_copy(result))
        return end_by_kernel(&o, result);
    if (result < 0)
        return ending_complain(o.pid, o.fd, result);
    result = end_tell(e.text);
    if (!result && !o.dry && (o.yes || ask(o.reset ? "reset it?" : "end it?")))
        return end_finish(&o, &e);
    ending_drop(&e);
    return result || o.dry ? result : EXIT_FOUND;
}
