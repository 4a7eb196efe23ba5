/* SPDX-License-Identifier: MIT */

#include "ps/options.h"

#include "common/say.h"
#include "common/units.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    WORD = PS_WORD,
    INTERVAL_MS = 2000,
    INTERVAL_MIN_MS = 100,
    ALL = ~0u >> 1
};

static const char help[] =
    "usage: finack ps [OPTIONS]\n"
    "\n"
    "Lists the machine's sockets (TCP, UDP, Unix), who holds them, and why each is still there.\n"
    "\n"
    "What to show (lists are separated by commas):\n"
    "  -g, --ghosts            only those that are not fine\n"
    "  -p, --pid PID,...       only those that these processes hold, in any network namespace\n"
    "  -c, --command NAME,...  only those that processes of these names hold; * matches anything\n"
    "  -u, --user USER,...     only those of these users\n"
    "  -r, --remote ADDR,...   the other end: 10.0.0.5, 10.0.0.0/8, 10.0.0.5:5432, [::1]:80, :5432\n"
    "  -o, --older TIME        only those in their state for at least that long: 90s, 5m, 3h\n"
    "  --proto NAME,...        tcp, udp, unix\n"
    "  --port PORT,...         either end has this port\n"
    "  --state NAME,...        such as established, close-wait, time-wait\n"
    "  -n, --netns WHICH       of another network namespace: a name of ip-netns(8), a path, the id of\n"
    "                          a process; or all\n"
    "\n"
    "How:\n"
    "  -b, --by WHAT           process, command, remote or container\n"
    "  -s, --sort KEY          verdict (default), proto, state, port, pid, recv, send, age, rate\n"
    "  -w, --watch[=TIME]      look again every TIME (default 2s), with rates, until interrupted\n"
    "  -j, --json              as JSON; with --watch, a line each time\n"
    "  --end                   with --ghosts: end those leaked, half-closed or stalled; asks first\n"
    "  --yes                   do not ask\n"
    "  --record FILE           also write all sockets to FILE, for --since\n"
    "  --since FILE            only what came or changed since FILE was written\n"
    "  -h, --help, --version\n"
    "\n"
    "Verdicts:\n"
    "  leaked              the peer has closed; the program has not\n"
    "  unserved            clients wait to be accepted, and nobody accepts\n"
    "  dead                open after a reset or after both FINs; ss(8) does not list it\n"
    "  stale-registration  an epoll set has it under a descriptor that is another file now\n"
    "  invisible-holder    it is open, and no process shows it\n"
    "  held                several programs hold it, or only one that got a copy\n"
    "  stalled             the peer's window is closed, and bytes wait\n"
    "  orphan              no process has it; the kernel still sends, or waits for FIN\n"
    "  half-closed         we have closed, the peer has not\n"
    "  fine, parked        all others; parked: one end of a pair, kept on purpose\n"
    "\n"
    "Exit status: 0 all that was shown is fine, 1 something is not, 2 bad usage, or sockets could\n"
    "not be listed.\n";

static const char *const groups[PS_GROUPS] = {
    [GROUP_PROCESS] = "process",
    [GROUP_COMMAND] = "command",
    [GROUP_REMOTE] = "remote",
    [GROUP_CONTAINER] = "container",
};

static const char *const sorts[PS_SORTS] = {
    [SORT_VERDICT] = "verdict", [SORT_PROTO] = "proto", [SORT_STATE] = "state",
    [SORT_PORT] = "port",       [SORT_PID] = "pid",     [SORT_RECEIVE] = "recv",
    [SORT_SEND] = "send",       [SORT_AGE] = "age",     [SORT_RATE] = "rate",
};

static const char *group_name(int group)
{
    return groups[group];
}

static const char *sort_name(int sort)
{
    return sorts[sort];
}

/* ---- lists ---- */

/* Copies the next word of a list such as "1,2", and returns what is behind it; NULL for a word that
 * is too long. */
static const char *next_word(const char *list, char word[WORD])
{
    size_t length = strcspn(list, ",");

    if (length >= WORD)
        return NULL;
    memcpy(word, list, length);
    word[length] = '\0';
    return list + length + (list[length] == ',');
}

int ps_take_numbers(const struct option_rule *rule, const char *list, void *to)
{
    struct ps_numbers *numbers = to;
    char word[WORD];
    uint64_t number;

    do {
        list = next_word(list, word);
        if (option_number(rule, list ? word : "...", &number))
            return EXIT_TROUBLE;
        if (numbers->count == PS_NUMBERS_MAX)
            return complain("--%s takes %d numbers at most", rule->name, PS_NUMBERS_MAX);
        numbers->at[numbers->count++] = (uint32_t) number;
    } while (*list);
    return 0;
}

static int take_pids(const struct option_rule *rule, const char *list, void *to)
{
    const struct ps_numbers *pids = to;
    char path[32];

    if (ps_take_numbers(rule, list, to))
        return EXIT_TROUBLE;
    for (size_t i = 0; i < pids->count; i++) {
        snprintf(path, sizeof path, "/proc/%u/fd", pids->at[i]);
        if (access(path, F_OK) < 0)
            return complain("--pid %u: there is no such process", pids->at[i]);
        if (access(path, R_OK | X_OK) < 0)
            return complain("--pid %u: no permission to look at it; root may", pids->at[i]);
    }
    return 0;
}

/* Adds the bits of the words. */
static int take_bits(const struct option_rule *rule, const char *list, void *to)
{
    unsigned *bits = to;
    char word[WORD];
    int found;

    do {
        list = next_word(list, word);
        found = option_find_word(rule, list ? word : "...");
        if (found < 0)
            return EXIT_TROUBLE;
        *bits |= 1u << found;
    } while (*list);
    return 0;
}

static int take_names(const struct option_rule *rule, const char *list, void *to)
{
    struct ps_words *words = to;

    do {
        if (words->count == PS_WORDS_MAX)
            return complain("--%s takes %d names at most", rule->name, PS_WORDS_MAX);
        list = next_word(list, words->at[words->count]);
        if (!list || !*words->at[words->count])
            return complain("--%s: a name is too long, or empty", rule->name);
        words->count++;
    } while (*list);
    return 0;
}

static int take_users(const struct option_rule *rule, const char *list, void *to)
{
    struct ps_numbers *users = to;
    char word[WORD];
    uint64_t number;

    do {
        const struct passwd *user;

        list = next_word(list, word);
        user = list ? getpwnam(word) : NULL;
        if (user)
            number = user->pw_uid;
        else if (!list || parse_number(word, 0, UINT32_MAX, &number) < 0)
            return complain("--%s '%s': there is no such user", rule->name, list ? word : "...");
        if (users->count == PS_NUMBERS_MAX)
            return complain("--%s takes %d users at most", rule->name, PS_NUMBERS_MAX);
        users->at[users->count++] = (uint32_t) number;
    } while (*list);
    return 0;
}

static int take_remotes(const struct option_rule *rule, const char *list, void *to)
{
    struct ps_remotes *remotes = to;
    char word[WORD];

    do {
        list = next_word(list, word);
        if (!list || remote_parse(word, &remotes->at[remotes->count]) < 0)
            return complain("--%s '%s' is no ADDRESS[/BITS], ADDRESS:PORT, [ADDRESS]:PORT or "
                            ":PORT",
                            rule->name, list ? word : "...");
        if (++remotes->count == PS_WORDS_MAX && *list)
            return complain("--%s takes %d at most", rule->name, PS_WORDS_MAX);
    } while (*list);
    return 0;
}

/* ---- others ---- */

static int take_age(const struct option_rule *rule, const char *text, void *to)
{
    if (parse_time(text, to) == 0)
        return 0;
    return complain("--%s '%s' is no time up to a day; write it as 90s, 5m or 3h", rule->name,
                    text);
}

static int take_watch(const struct option_rule *rule, const char *text, void *to)
{
    struct ps_options *o = to;

    o->watch = true;
    if (text && parse_time(text, &o->interval_ms) < 0)
        return complain("--%s '%s' is no time; write it as 500ms, 2s or 1min", rule->name, text);
    if (o->interval_ms < INTERVAL_MIN_MS)
        return complain("--%s=%s is too short; 100ms is the least", rule->name, text);
    return 0;
}

int ps_take_netns(const struct option_rule *rule, const char *text, void *to)
{
    if (!*text)
        return complain("--%s needs a name, a path, the id of a process, or 'all'", rule->name);
    *(const char **) to = text;
    return 0;
}

/* ---- all ---- */

#define AT(member) offsetof(struct ps_options, member)

static const struct option_rule rules[] = {
    { "by", 'b', .at = AT(group), .take = option_word, .least = GROUP_PROCESS,
      .most = PS_GROUPS - 1, .word = group_name },
    { "command", 'c', .at = AT(commands), .take = take_names },
    { "ghosts", 'g', .at = AT(ghosts) },
    { "json", 'j', .at = AT(json) },
    { "netns", 'n', .at = AT(netns), .take = ps_take_netns },
    { "older", 'o', .at = AT(older_ms), .take = take_age },
    { "pid", 'p', .at = AT(pids), .take = take_pids, .least = 1, .most = INT32_MAX },
    { "remote", 'r', .at = AT(remotes), .take = take_remotes },
    { "sort", 's', .at = AT(sort), .take = option_word, .least = 0, .most = PS_SORTS - 1,
      .word = sort_name },
    { "user", 'u', .at = AT(users), .take = take_users },
    { "watch", 'w', .take = take_watch, .may_lack = true },
    { "proto", .at = AT(protocols), .take = take_bits, .least = 0, .most = PROTOCOLS - 1,
      .word = socket_protocol_name },
    { "port", .at = AT(ports), .take = ps_take_numbers, .least = 1, .most = UINT16_MAX },
    { "state", .at = AT(states), .take = take_bits, .least = 0, .most = STATES - 1,
      .word = socket_state_name },
    { "record", .at = AT(record), .take = option_file },
    { "since", .at = AT(since), .take = option_file },
    { "end", .at = AT(end) },
    { "yes", .at = AT(yes) },
    { .name = NULL },
};

static int check_together(const struct ps_options *o)
{
    if (o->watch && (o->record || o->since || o->group || o->end))
        return complain("--watch goes with none of --by, --record, --since and --end");
    if (o->end && (o->json || !o->ghosts))
        return complain("--end needs --ghosts, and prints no JSON");
    return PARSE_RUN;
}

int ps_options_parse(int argc, char **argv, struct ps_options *o)
{
    int result;

    *o = (struct ps_options) { .interval_ms = INTERVAL_MS };
    result = options_read(argc, argv, rules, help, false, o);
    if (result == PARSE_RUN)
        result = no_more_arguments(argc, argv);
    o->protocols = o->protocols ? o->protocols : ALL;
    o->states = o->states ? o->states : ALL;
    return result == PARSE_RUN ? check_together(o) : result;
}
