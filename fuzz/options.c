/* SPDX-License-Identifier: MIT */

/* The arguments of every subcommand. What is accepted is within its bounds; what is not is told in
 * one line that obeys no byte of it. */

#include "probe/options.h"
#include "bytes.h"
#include "close/policy.h"
#include "common/say.h"
#include "common/target.h"
#include "common/units.h"
#include "export/options.h"
#include "ps/options.h"
#include "trace/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 16
#define LENGTH 512

/* ---- what is said (by -Wl,--wrap) ---- */

int __wrap_complain(const char *format, ...);
int __wrap_put_out(const char *text, size_t size);
int __wrap_put_version(void);

static unsigned complaints;

int __wrap_complain(const char *format, ...)
{
    char raw[1024], line[2048];
    va_list args;

    va_start(args, format);
    (void) vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    escape(raw, line, sizeof line);
    must(is_harmless(line) && !strchr(line, '\n'), "a complaint is one line");
    complaints++;
    return EXIT_TROUBLE;
}

int __wrap_put_out(const char *text, size_t size)
{
    must(text[size] == '\0' && is_harmless(text), "help is a text");
    return EXIT_FINE;
}

int __wrap_put_version(void)
{
    return EXIT_FINE;
}

/* ---- what was accepted ---- */

static void check_target(const char *host, const char *port)
{
    uint64_t number;

    must(is_host_name(host) && parse_number(port, 1, 65535, &number) == 0, "HOST:PORT is both");
}

static void check_numbers(const struct ps_numbers *numbers, uint32_t high)
{
    must(numbers->count <= PS_NUMBERS_MAX, "numbers fit");
    for (size_t i = 0; i < numbers->count; i++)
        must(numbers->at[i] >= 1 && numbers->at[i] <= high, "a number is in its range");
}

static enum parse_result take_probe(int argc, char **argv)
{
    struct probe_options o;
    enum parse_result result = options_parse(argc, argv, &o);

    if (result != PARSE_RUN)
        return result;
    must(fin__policy_check(&o.policy) == 0, "a policy is one that the library takes");
    must(o.count >= 1 && o.count <= PROBE_COUNT_MAX, "a count is in its range");
    must(o.connect_ms >= 0 && o.connect_ms <= FIN_TIME_MAX_MS, "a time is in its range");
    must(!o.http_path || is_harmless(o.http_path), "a path is harmless");
    if (*o.host)
        check_target(o.host, o.port);
    return result;
}

static enum parse_result take_ps(int argc, char **argv)
{
    struct ps_options o;
    enum parse_result result = ps_options_parse(argc, argv, &o);

    if (result != PARSE_RUN)
        return result;
    check_numbers(&o.pids, INT32_MAX);
    check_numbers(&o.ports, UINT16_MAX);
    must(o.interval_ms >= 100 && o.sort >= SORT_VERDICT && o.sort < PS_SORTS, "values are known");
    return result;
}

static enum parse_result take_export(int argc, char **argv)
{
    struct export_options o;
    enum parse_result result = export_options_parse(argc, argv, &o);

    if (result != PARSE_RUN)
        return result;
    check_target(o.host, o.port);
    must(is_address(o.host), "it listens on an address");
    must(o.commands >= 1 && o.commands <= 1000, "a count is in its range");
    check_numbers(&o.ports, UINT16_MAX);
    return result;
}

static enum parse_result take_trace(int argc, char **argv)
{
    struct trace_options o;
    enum parse_result result = trace_options_parse(argc, argv, &o);

    if (result == PARSE_RUN)
        must(o.pid > 0 || *o.command, "there is something to trace");
    return result;
}

/* ---- words ---- */

/* getopt(3) keeps where it was in a word when it was left early. */
static void forget_words(void)
{
    char name[] = "", *none[] = { name, NULL };

    optind = 0;
    (void) getopt(1, none, "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static enum parse_result (*const commands[])(int, char **) = { take_probe, take_ps, take_export,
                                                                   take_trace };
    static char words[WORDS][LENGTH];
    struct bytes bytes = { data, size };
    char *argv[WORDS + 1] = { words[0] };
    unsigned which = take_below(&bytes, 4);
    enum parse_result result;
    int argc = 1;

    for (; argc < WORDS && bytes.left > 0; argc++) {
        (void) take_text(&bytes, words[argc], LENGTH);
        argv[argc] = words[argc];
    }
    forget_words();
    complaints = 0;
    result = commands[which](argc, argv);
    must(complaints == (result == PARSE_WRONG), "what is wrong is told once");
    return 0;
}
