/* SPDX-License-Identifier: MIT */

#include "attach/ask.h"
#include "attach/report.h"
#include "common/arguments.h"
#include "common/command.h"
#include "common/out.h"
#include "common/say.h"
#include "common/units.h"
#include "sockets/join.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- what it is asked to do ---- */

struct attach_options {
    int32_t pid;
    int32_t timeout_ms;
    bool json;
};

enum {
    TIMEOUT_MS = 5000
};

static const char help[] =
    "usage: finack attach [OPTIONS] PID\n"
    "\n"
    "Asks a running Python program, 3.14 or later, for the connections, servers and pipes of its\n"
    "loops and the tasks that use them, and adds what finack ps says of each socket. Nothing has\n"
    "to be installed there, and nothing stays.\n"
    "\n"
    "  --json              one JSON document\n"
    "  -t, --timeout TIME  how long to wait for the answer (5s)\n"
    "  -h, --help, --version\n"
    "\n"
    "Exit status: 0 all is fine, 1 a socket is not, 2 the program could not be asked.\n";

static int take_timeout(const struct option_rule *rule, const char *text, void *to)
{
    int32_t *ms = to;

    if (parse_time(text, ms) == 0 && *ms > 0)
        return 0;
    return complain("--%s '%s' is no time such as 5s", rule->name, text);
}

#define AT(member) offsetof(struct attach_options, member)

static const struct option_rule rules[] = {
    { "json", .at = AT(json) },
    { "timeout", 't', .at = AT(timeout_ms), .take = take_timeout },
    { .name = NULL },
};

static int attach_options_parse(int argc, char **argv, struct attach_options *o)
{
    int result;

    *o = (struct attach_options) { .timeout_ms = TIMEOUT_MS };
    result = options_read(argc, argv, rules, help, false, o);
    if (result == PARSE_RUN)
        result = next_number(argc, argv, "process", 1, &o->pid);
    return result == PARSE_RUN ? no_more_arguments(argc, argv) : result;
}

/* ---- what it does ---- */

static int print(const json_t *said, bool as_json)
{
    struct out out;
    int result = out_open(&out, STDOUT_FILENO), written;

    if (result < 0)
        return complain("out of memory");
    if (as_json) {
        result = json_dumpf(said, out.file, JSON_COMPACT);
        fputs("\n", out.file);
    } else {
        report_print(out.file, said);
    }
    written = out_close(&out);
    return result < 0 ? complain("out of memory") : put_status(written);
}

/* Asks the kernel after the answer, so that the sockets in it are listed. */
static int join_and_print(json_t *said, const struct attach_options *o)
{
    struct netns_list spaces;
    struct snapshot snapshot = { .at_ns = 0 };
    int status = netns_list_make(NULL, &spaces), ghosts = 0;

    if (!status && netns_list_add_process(&spaces, o->pid) < 0)
        status = complain("out of memory");
    if (!status)
        status = snapshot_take(&snapshot, &spaces);
    if (!status) {
        ghosts = report_join(said, &snapshot, o->pid);
        status = ghosts < 0 ? complain("out of memory") : print(said, o->json);
    }
    snapshot_free(&snapshot);
    netns_list_free(&spaces);
    return status ? status : ghosts ? EXIT_FOUND : EXIT_FINE;
}

static int report(const char *text, const struct attach_options *o)
{
    json_t *said = json_loads(text, 0, NULL);
    const char *error = json_string_value(json_object_get(said, "error"));
    int status;

    if (!json_is_object(said))
        status = complain("process %d gave an answer that can't be read", o->pid);
    else if (error)
        status = complain("process %d could not look at itself: %s", o->pid, error);
    else
        status = join_and_print(said, o);
    json_decref(said);
    return status;
}

int attach_main(int argc, char **argv)
{
    struct attach_options o;
    char *text = NULL;
    int status;
    int parsed = attach_options_parse(argc, argv, &o);

    if (parsed != PARSE_RUN)
        return parsed;
    status = python_ask(o.pid, o.timeout_ms, &text);
    if (!status)
        status = report(text, &o);
    free(text);
    return status;
}
