/* SPDX-License-Identifier: MIT */

#include "probe/options.h"

#include "common/say.h"
#include "common/target.h"
#include "common/units.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum {
    UNSET = -1
};

enum option_id {
    OPT_TLS = OPTION_BASE,
    OPT_SNI,
    OPT_CAFILE,
    OPT_INSECURE,
    OPT_SEND,
    OPT_HTTP,
    OPT_COUNT,
    OPT_CONNECT_TIMEOUT,
    OPT_COURTESY,
    OPT_FLUSH,
    OPT_FAREWELL,
    OPT_LINGER,
    OPT_TOTAL,
    OPT_DRAIN,
    OPT_PROOF,
    OPT_PROOF_WAIT,
    OPT_SCOPE,
    OPT_JSON,
    OPT_HTML,
    OPT_VERSION,
};

static const struct option long_options[] = {
    { "tls", no_argument, NULL, OPT_TLS },
    { "sni", required_argument, NULL, OPT_SNI },
    { "cafile", required_argument, NULL, OPT_CAFILE },
    { "insecure", no_argument, NULL, OPT_INSECURE },
    { "send", required_argument, NULL, OPT_SEND },
    { "http", required_argument, NULL, OPT_HTTP },
    { "count", required_argument, NULL, OPT_COUNT },
    { "connect-timeout", required_argument, NULL, OPT_CONNECT_TIMEOUT },
    { "courtesy", required_argument, NULL, OPT_COURTESY },
    { "flush", required_argument, NULL, OPT_FLUSH },
    { "farewell", required_argument, NULL, OPT_FAREWELL },
    { "linger", required_argument, NULL, OPT_LINGER },
    { "total", required_argument, NULL, OPT_TOTAL },
    { "drain", required_argument, NULL, OPT_DRAIN },
    { "proof", required_argument, NULL, OPT_PROOF },
    { "proof-wait", required_argument, NULL, OPT_PROOF_WAIT },
    { "scope", required_argument, NULL, OPT_SCOPE },
    { "json", no_argument, NULL, OPT_JSON },
    { "html", required_argument, NULL, OPT_HTML },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

static const char *option_name(int id)
{
    return long_options[id - OPTION_BASE].name;
}

static int take_time(int id, const char *text, int32_t *ret)
{
    switch (parse_time(text, ret)) {
    case 0:
        return 0;
    case -ERANGE:
        return complain("--%s %s is too long; a day (1440min) is the most", option_name(id), text);
    default:
        return complain("--%s '%s' is no time; write it as 250ms, 2s or 1min", option_name(id),
                        text);
    }
}

static int take_size(int id, const char *text, uint64_t *ret)
{
    if (parse_size(text, ret) == 0)
        return 0;
    return complain("--%s '%s' is no size; write it as 65536, 64K or 1M", option_name(id), text);
}

static int take_count(const char *text, uint64_t *ret)
{
    if (parse_number(text, 1, PROBE_COUNT_MAX, ret) == 0)
        return 0;
    return complain("--count '%s' is not a number from 1 to %d", text, PROBE_COUNT_MAX);
}

/* Looks `text` up among the names of the values from `first` to `last`. */
static int take_name(int id, const char *text, const char *(*name)(int), int first, int last,
                     int *ret)
{
    char choice[128] = "";
    int i;

    for (i = first; i <= last; i++) {
        if (strcmp(text, name(i)) == 0) {
            *ret = i;
            return 0;
        }
        snprintf(choice + strlen(choice), sizeof choice - strlen(choice), "%s%s",
                 i == first ? "" : ", ", name(i));
    }
    return complain("--%s '%s' is not one of %s", option_name(id), text, choice);
}

static int take_path(const char *text, const char **ret)
{
    const char *at = text;

    while (*at > ' ' && *at < 0x7f)
        at++;
    if (*text != '/' || *at)
        return complain("--http '%s' is no path; write it as /index.html, percent-encoded", text);
    *ret = text;
    return 0;
}

static int take_file(int id, const char *text, const char **ret)
{
    if (!*text)
        return complain("--%s needs the name of a file", option_name(id));
    *ret = text;
    return 0;
}

static int take_server_name(const char *text, const char **ret)
{
    if (!is_host_name(text))
        return complain("--sni '%s' is no host name", text);
    *ret = text;
    return 0;
}

static int take_connection_option(int id, const char *text, struct probe_options *o)
{
    switch (id) {
    case OPT_TLS:
        o->tls = true;
        return 0;
    case OPT_SNI:
        return take_server_name(text, &o->sni);
    case OPT_CAFILE:
        return take_file(id, text, &o->ca_file);
    case OPT_INSECURE:
        o->insecure = true;
        return 0;
    case OPT_SEND:
        return take_file(id, text, &o->send_file);
    case OPT_HTTP:
        return take_path(text, &o->http_path);
    case OPT_COUNT:
        return take_count(text, &o->count);
    default:
        return take_time(id, text, &o->connect_ms);
    }
}

static int take_policy_option(int id, const char *text, struct fin_policy *p)
{
    switch (id) {
    case OPT_COURTESY:
        return take_name(id, text, fin_courtesy_name, FIN_COURTESY_ABORT, FIN_COURTESY_FULL,
                         &p->courtesy);
    case OPT_FLUSH:
        return take_time(id, text, &p->flush_ms);
    case OPT_FAREWELL:
        return take_time(id, text, &p->farewell_ms);
    case OPT_LINGER:
        return take_time(id, text, &p->linger_ms);
    case OPT_TOTAL:
        return take_time(id, text, &p->total_ms);
    case OPT_DRAIN:
        return take_size(id, text, &p->drain);
    case OPT_PROOF:
        return take_name(id, text, fin_stage_name, FIN_STAGE_RELEASED, FIN_STAGE_GONE, &p->proof);
    case OPT_PROOF_WAIT:
        return take_time(id, text, &p->proof_ms);
    default:
        return take_name(id, text, fin_scope_name, FIN_SCOPE_CONNECTION, FIN_SCOPE_DESCRIPTOR,
                         &p->scope);
    }
}

static enum parse_result take_option(char **argv, int id, struct probe_options *o)
{
    if (id < OPTION_BASE && id != 'h')
        return option_not_understood(argv, id);
    if (id == 'h' || id == OPT_VERSION)
        return put_help(id == 'h' ? probe_help : NULL);
    if (id == OPT_JSON)
        o->json = true;
    else if (id == OPT_HTML)
        return take_file(id, optarg, &o->html_file) ? PARSE_WRONG : PARSE_RUN;
    else if (id < OPT_COURTESY)
        return take_connection_option(id, optarg, o) ? PARSE_WRONG : PARSE_RUN;
    else
        return take_policy_option(id, optarg, &o->policy) ? PARSE_WRONG : PARSE_RUN;
    return PARSE_RUN;
}

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

enum parse_result options_parse(int argc, char **argv, struct probe_options *o)
{
    const struct fin_policy usual = FIN_POLICY_INIT;
    enum parse_result result = PARSE_RUN;
    int id;

    *o = (struct probe_options) { .count = 1, .connect_ms = UNSET, .policy = usual };
    o->policy.flush_ms = o->policy.linger_ms = o->policy.total_ms = UNSET;
    opterr = 0;
    optind = 1;
    while (result == PARSE_RUN && (id = getopt_long(argc, argv, ":h", long_options, NULL)) != -1)
        result = take_option(argv, id, o);
    if (result != PARSE_RUN)
        return result;
    if (take_target(argc, argv, o) || check_combination(o))
        return PARSE_WRONG;
    fill_in_times(o);
    return PARSE_RUN;
}
