/* SPDX-License-Identifier: MIT */

#include "probe/options.h"

#include "common/say.h"
#include "common/target.h"
#include "common/units.h"

#include <errno.h>
#include <getopt.h>

enum {
    UNSET = -1
};

static const char help[] =
    "usage: finack probe [OPTIONS] [HOST:PORT]\n"
    "\n"
    "Closes a connection and shows how that went: to HOST:PORT ([ADDRESS]:PORT for IPv6) if given,\n"
    "else to a set of embedded peers that behave as badly as real ones do.\n"
    "\n"
    "Connection (with HOST:PORT only):\n"
    "  --tls                    speak TLS; the certificate is verified\n"
    "  --sni NAME               the server's name, if it is not HOST\n"
    "  --cafile FILE            trust the certificates in FILE (PEM), not the system's\n"
    "  --insecure               do not verify the certificate\n"
    "  --send FILE              send FILE before closing\n"
    "  --http PATH              send a GET and wait for the response to begin before closing\n"
    "  --count N                close N connections, at most 64 at a time (default 1)\n"
    "  --connect-timeout TIME   for connecting, the handshake and the response (default 10s)\n"
    "\n"
    "Policy:\n"
    "  --courtesy HOW           abort, prompt, orderly (default) or full\n"
    "  --flush TIME             longest time without progress in sending (default 5s)\n"
    "  --farewell TIME          for close_notify and its answer (default 1s)\n"
    "  --linger TIME            for the peer's acknowledgement and FIN (default 2s)\n"
    "  --total TIME             for everything up to release (default 10s)\n"
    "  --drain SIZE             input thrown away at most (default 1M)\n"
    "  --proof STAGE            released, unreferenced (default), finished or gone\n"
    "  --proof-wait TIME        for the proof, after release (default 100ms)\n"
    "  --scope WHOSE            connection (default) or descriptor\n"
    "Embedded peers get --flush 1s --linger 1s --total 5s unless told otherwise.\n"
    "\n"
    "Output:\n"
    "  --json                   an array with an object for each close\n"
    "  --html FILE              write a page for browsers too, with a waterfall of the closes\n"
    "  -h, --help, --version\n"
    "\n"
    "TIME is a number with ms, s or min; without a unit it is milliseconds. SIZE is bytes, or a\n"
    "number with K, M, G or T (powers of 1024).\n"
    "\n"
    "Exit status: 0 every close was graceful (embedded peers: as expected), 1 one was not, 2 bad\n"
    "usage, no connection, or the output could not be written.\n";

static int take_time(const struct option_rule *rule, const char *text, void *to)
{
    switch (parse_time(text, to)) {
    case 0:
        return 0;
    case -ERANGE:
        return complain("--%s %s is too long; a day (1440min) is the most", rule->name, text);
    default:
        return complain("--%s '%s' is no time; write it as 250ms, 2s or 1min", rule->name, text);
    }
}

static int take_size(const struct option_rule *rule, const char *text, void *to)
{
    if (parse_size(text, to) == 0)
        return 0;
    return complain("--%s '%s' is no size; write it as 65536, 64K or 1M", rule->name, text);
}

static int take_path(const struct option_rule *rule, const char *text, void *to)
{
    const char *at = text;

    while (*at > ' ' && *at < 0x7f)
        at++;
    if (*text != '/' || *at)
        return complain("--%s '%s' is no path; write it as /index.html, percent-encoded",
                        rule->name, text);
    *(const char **) to = text;
    return 0;
}

static int take_server_name(const struct option_rule *rule, const char *text, void *to)
{
    if (!is_host_name(text))
        return complain("--%s '%s' is no host name", rule->name, text);
    *(const char **) to = text;
    return 0;
}

#define AT(member) offsetof(struct probe_options, member)

static const struct option_rule rules[] = {
    { "tls", .at = AT(tls) },
    { "sni", .at = AT(sni), .take = take_server_name },
    { "cafile", .at = AT(ca_file), .take = option_file },
    { "insecure", .at = AT(insecure) },
    { "send", .at = AT(send_file), .take = option_file },
    { "http", .at = AT(http_path), .take = take_path },
    { "count", .at = AT(count), .take = option_number, .least = 1, .most = PROBE_COUNT_MAX },
    { "connect-timeout", .at = AT(connect_ms), .take = take_time },
    { "courtesy", .at = AT(policy.courtesy), .take = option_word, .least = FIN_COURTESY_ABORT,
      .most = FIN_COURTESY_FULL, .word = fin_courtesy_name },
    { "flush", .at = AT(policy.flush_ms), .take = take_time },
    { "farewell", .at = AT(policy.farewell_ms), .take = take_time },
    { "linger", .at = AT(policy.linger_ms), .take = take_time },
    { "total", .at = AT(policy.total_ms), .take = take_time },
    { "drain", .at = AT(policy.drain), .take = take_size },
    { "proof", .at = AT(policy.proof), .take = option_word, .least = FIN_STAGE_RELEASED,
      .most = FIN_STAGE_GONE, .word = fin_stage_name },
    { "proof-wait", .at = AT(policy.proof_ms), .take = take_time },
    { "scope", .at = AT(policy.scope), .take = option_word, .least = FIN_SCOPE_CONNECTION,
      .most = FIN_SCOPE_DESCRIPTOR, .word = fin_scope_name },
    { "json", .at = AT(json) },
    { "html", .at = AT(html_file), .take = option_file },
    { .name = NULL },
};

static void fill_in(int32_t *time, int32_t usual)
{
    if (*time == UNSET)
        *time = usual;
}

/* The embedded peers show the same in less time. */
static void fill_in_times(struct probe_options *o)
{
    const struct fin_policy usual = FIN_POLICY_INIT;
    bool embedded = !*o->host;

    fill_in(&o->policy.flush_ms, embedded ? 1000 : usual.flush_ms);
    fill_in(&o->policy.linger_ms, embedded ? 1000 : usual.linger_ms);
    fill_in(&o->policy.total_ms, embedded ? 5000 : usual.total_ms);
    fill_in(&o->connect_ms, 10000);
}

static int needs_server(const struct probe_options *o)
{
    if (o->tls || o->sni || o->ca_file || o->insecure || o->send_file || o->http_path
        || o->count != 1 || o->connect_ms != UNSET)
        return complain("options about the connection need HOST:PORT; see 'finack probe --help'");
    return 0;
}

static int check_combination(const struct probe_options *o)
{
    if (!*o->host)
        return needs_server(o);
    if (!o->tls && (o->sni || o->ca_file || o->insecure))
        return complain("--sni, --cafile and --insecure need --tls");
    if (o->insecure && o->ca_file)
        return complain("--insecure and --cafile exclude each other");
    if (o->send_file && o->http_path)
        return complain("--send and --http exclude each other");
    return 0;
}

static int take_target(int argc, char **argv, struct probe_options *o)
{
    if (optind == argc)
        return 0;
    if (optind + 1 < argc)
        return complain("one HOST:PORT is enough; '%s' is one too many", argv[optind + 1]);
    return parse_target(argv[optind], o->host, sizeof o->host, o->port, sizeof o->port);
}

int options_parse(int argc, char **argv, struct probe_options *o)
{
    const struct fin_policy usual = FIN_POLICY_INIT;
    int result;

    *o = (struct probe_options) { .count = 1, .connect_ms = UNSET, .policy = usual };
    o->policy.flush_ms = o->policy.linger_ms = o->policy.total_ms = UNSET;
    result = options_read(argc, argv, rules, help, false, o);
    if (result != PARSE_RUN)
        return result;
    if (take_target(argc, argv, o) || check_combination(o))
        return PARSE_WRONG;
    fill_in_times(o);
    return PARSE_RUN;
}
