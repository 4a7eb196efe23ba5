/* SPDX-License-Identifier: MIT */

#include "ps/options.h"

#include "common/say.h"
#include "common/units.h"

#include <ctype.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    WORD = PS_WORD,
    INTERVAL_MS = 2000,
    INTERVAL_MIN_MS = 100,
    ALL = ~0u >> 1
};

enum option_id {
    OPT_PROTO = OPTION_BASE,
    OPT_PORT,
    OPT_STATE,
    OPT_RECORD,
    OPT_SINCE,
    OPT_END,
    OPT_YES,
    OPT_VERSION,
};

static const char short_options[] = ":b:c:ghjn:o:p:r:s:u:w";
static const struct option long_options[] = {
    { "by", required_argument, NULL, 'b' },
    { "command", required_argument, NULL, 'c' },
    { "ghosts", no_argument, NULL, 'g' },
    { "help", no_argument, NULL, 'h' },
    { "json", no_argument, NULL, 'j' },
    { "netns", required_argument, NULL, 'n' },
    { "older", required_argument, NULL, 'o' },
    { "pid", required_argument, NULL, 'p' },
    { "remote", required_argument, NULL, 'r' },
    { "sort", required_argument, NULL, 's' },
    { "user", required_argument, NULL, 'u' },
    { "watch", optional_argument, NULL, 'w' },
    { "proto", required_argument, NULL, OPT_PROTO },
    { "port", required_argument, NULL, OPT_PORT },
    { "state", required_argument, NULL, OPT_STATE },
    { "record", required_argument, NULL, OPT_RECORD },
    { "since", required_argument, NULL, OPT_SINCE },
    { "end", no_argument, NULL, OPT_END },
    { "yes", no_argument, NULL, OPT_YES },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

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

/* ---- numbers ---- */

static int take_numbers(const char *option, const char *list, uint64_t low, uint64_t high,
                        struct ps_numbers *numbers)
{
    char word[WORD];
    uint64_t number;

    do {
        list = next_word(list, word);
        if (!list || parse_number(word, low, high, &number) < 0)
            return complain("--%s '%s' is not a number from %llu to %llu", option,
                            list ? word : "...", (unsigned long long) low,
                            (unsigned long long) high);
        if (numbers->count == PS_NUMBERS_MAX)
            return complain("--%s takes %d numbers at most", option, PS_NUMBERS_MAX);
        numbers->at[numbers->count++] = (uint32_t) number;
    } while (*list);
    return 0;
}

int ps_take_ports(const char *list, struct ps_numbers *ports)
{
    return take_numbers("port", list, 1, UINT16_MAX, ports);
}

static int take_pids(const char *list, struct ps_numbers *pids)
{
    char path[32];

    if (take_numbers("pid", list, 1, INT32_MAX, pids))
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

/* ---- names ---- */

/* As a person may write it: "time-wait", "TIME_WAIT". */
static bool is_alike(const char *text, const char *name)
{
    for (; *text && *name; text++, name++)
        if (toupper((unsigned char) (*text == '-' ? '_' : *text))
            != toupper((unsigned char) (*name == '-' ? '_' : *name)))
            return false;
    return *text == *name;
}

static int complain_choice(const char *option, const char *text, const char *(*name)(int),
                           int first, int last)
{
    char choice[256] = "";

    for (int i = first; i < last; i++)
        snprintf(choice + strlen(choice), sizeof choice - strlen(choice), "%s%s",
                 i == first ? "" : ", ", name(i));
    return complain("--%s '%s' is not one of %s", option, text, choice);
}

/* Adds the bits of the names in the list, which are those of the values from first to last - 1. */
static int take_names(const char *option, const char *list, const char *(*name)(int), int first,
                      int last, unsigned *bits)
{
    char word[WORD];
    int i;

    do {
        list = next_word(list, word);
        for (i = first; list && i < last && !is_alike(word, name(i)); i++)
            ;
        if (!list || i == last)
            return complain_choice(option, list ? word : "...", name, first, last);
        *bits |= 1u << i;
    } while (*list);
    return 0;
}

static const char *sort_name(int sort)
{
    return sorts[sort];
}

static int take_sort(const char *text, enum ps_sort *sort)
{
    for (int i = 0; i < PS_SORTS; i++)
        if (is_alike(text, sorts[i])) {
            *sort = (enum ps_sort) i;
            return 0;
        }
    return complain_choice("sort", text, sort_name, 0, PS_SORTS);
}

static const char *group_name(int group)
{
    return groups[group];
}

static int take_group(const char *text, enum ps_group *group)
{
    for (int i = GROUP_PROCESS; i < PS_GROUPS; i++)
        if (is_alike(text, groups[i])) {
            *group = (enum ps_group) i;
            return 0;
        }
    return complain_choice("by", text, group_name, GROUP_PROCESS, PS_GROUPS);
}

static int take_words(const char *option, const char *list, struct ps_words *words)
{
    do {
        if (words->count == PS_WORDS_MAX)
            return complain("--%s takes %d names at most", option, PS_WORDS_MAX);
        list = next_word(list, words->at[words->count]);
        if (!list || !*words->at[words->count])
            return complain("--%s: a name is too long, or empty", option);
        words->count++;
    } while (*list);
    return 0;
}

static int take_users(const char *list, struct ps_numbers *users)
{
    char word[WORD];
    uint64_t number;

    do {
        const struct passwd *user;

        list = next_word(list, word);
        user = list ? getpwnam(word) : NULL;
        if (user)
            number = user->pw_uid;
        else if (!list || parse_number(word, 0, UINT32_MAX, &number) < 0)
            return complain("--user '%s': there is no such user", list ? word : "...");
        if (users->count == PS_NUMBERS_MAX)
            return complain("--user takes %d users at most", PS_NUMBERS_MAX);
        users->at[users->count++] = (uint32_t) number;
    } while (*list);
    return 0;
}

static int take_remotes(const char *list, struct ps_remotes *remotes)
{
    char word[WORD];

    do {
        list = next_word(list, word);
        if (!list || remote_parse(word, &remotes->at[remotes->count]) < 0)
            return complain("--remote '%s' is no ADDRESS[/BITS], ADDRESS:PORT, [ADDRESS]:PORT or "
                            ":PORT",
                            list ? word : "...");
        if (++remotes->count == PS_WORDS_MAX && *list)
            return complain("--remote takes %d at most", PS_WORDS_MAX);
    } while (*list);
    return 0;
}

static int take_age(const char *text, int32_t *ms)
{
    if (parse_time(text, ms) == 0)
        return 0;
    return complain("--older '%s' is no time up to a day; write it as 90s, 5m or 3h", text);
}

static int take_file(const char *option, const char *text, const char **file)
{
    if (!*text)
        return complain("--%s needs the name of a file", option);
    *file = text;
    return 0;
}

static int take_interval(const char *text, int32_t *ms)
{
    if (text && parse_time(text, ms) < 0)
        return complain("--watch '%s' is no time; write it as 500ms, 2s or 1min", text);
    if (*ms < INTERVAL_MIN_MS)
        return complain("--watch=%s is too short; 100ms is the least", text);
    return 0;
}

int ps_take_netns(const char *text, const char **netns)
{
    if (!*text)
        return complain("--netns needs a name, a path, the id of a process, or 'all'");
    *netns = text;
    return 0;
}

/* ---- all ---- */

static int take_filter(int id, const char *text, struct ps_options *o)
{
    switch (id) {
    case 'c':
        return take_words("command", text, &o->commands);
    case 'o':
        return take_age(text, &o->older_ms);
    case 'p':
        return take_pids(text, &o->pids);
    case 'r':
        return take_remotes(text, &o->remotes);
    case 'u':
        return take_users(text, &o->users);
    case OPT_PROTO:
        return take_names("proto", text, socket_protocol_name, 0, PROTOCOLS, &o->protocols);
    case OPT_PORT:
        return ps_take_ports(text, &o->ports);
    default:
        return take_names("state", text, socket_state_name, 0, STATES, &o->states);
    }
}

static int take_value(int id, const char *text, struct ps_options *o)
{
    switch (id) {
    case 'b':
        return take_group(text, &o->group);
    case 'n':
        return ps_take_netns(text, &o->netns);
    case 's':
        return take_sort(text, &o->sort);
    case 'w':
        o->watch = true;
        return take_interval(text, &o->interval_ms);
    case OPT_RECORD:
        return take_file("record", text, &o->record);
    case OPT_SINCE:
        return take_file("since", text, &o->since);
    default:
        return take_filter(id, text, o);
    }
}

static enum parse_result take_option(char **argv, int id, struct ps_options *o)
{
    switch (id) {
    case '?':
    case ':':
        return option_not_understood(argv, id);
    case 'h':
        return put_help(ps_help);
    case OPT_VERSION:
        return put_help(NULL);
    case 'g':
        o->ghosts = true;
        return PARSE_RUN;
    case 'j':
        o->json = true;
        return PARSE_RUN;
    case OPT_END:
        o->end = true;
        return PARSE_RUN;
    case OPT_YES:
        o->yes = true;
        return PARSE_RUN;
    default:
        return take_value(id, optarg, o) ? PARSE_WRONG : PARSE_RUN;
    }
}

static enum parse_result check_together(const struct ps_options *o)
{
    if (o->watch && (o->record || o->since || o->group || o->end))
        complain("--watch goes with none of --by, --record, --since and --end");
    else if (o->end && (o->json || !o->ghosts))
        complain("--end needs --ghosts, and prints no JSON");
    else
        return PARSE_RUN;
    return PARSE_WRONG;
}

enum parse_result ps_options_parse(int argc, char **argv, struct ps_options *o)
{
    enum parse_result result = PARSE_RUN;
    int id;

    *o = (struct ps_options) { .interval_ms = INTERVAL_MS };
    opterr = 0;
    optind = 1;
    while (result == PARSE_RUN
           && (id = getopt_long(argc, argv, short_options, long_options, NULL)) != -1)
        result = take_option(argv, id, o);
    if (result != PARSE_RUN)
        return result;
    if (optind < argc)
        return one_too_many(argv[optind]);
    o->protocols = o->protocols ? o->protocols : ALL;
    o->states = o->states ? o->states : ALL;
    return check_together(o);
}
