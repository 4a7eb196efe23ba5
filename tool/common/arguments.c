/* SPDX-License-Identifier: MIT */

#include "common/arguments.h"

#include "base/line.h"
#include "common/say.h"
#include "common/units.h"

#include <assert.h>
#include <ctype.h>
#include <getopt.h>
#include <string.h>

enum {
    RULES_MAX = 32,
    ID_VERSION = 256, /* ids that are no letters */
    ID_FIRST
};

/* ---- options ---- */

/* getopt_long(3) keeps no text of its own for what it did not understand. */
static int not_understood(char **argv, int id)
{
    const char *text = argv[optind - 1];

    if (id == ':')
        return complain("%s needs a value; see 'finack %s --help'", text, speaks_as());
    if (optopt > 0 && strncmp(text, "--", 2) == 0 && strchr(text, '='))
        return complain("%.*s takes no value; see 'finack %s --help'", (int) strcspn(text, "="),
                        text, speaks_as());
    if (optopt > 0 && optopt < ID_VERSION)
        return complain("unknown option '-%c'; see 'finack %s --help'", optopt, speaks_as());
    return complain("unknown or ambiguous option '%s'; see 'finack %s --help'", text, speaks_as());
}

/* As getopt_long(3) wants them. */
struct wanted {
    char letters[4 + 2 * RULES_MAX];
    struct option options[RULES_MAX + 3];
};

static void describe(const struct option_rule *rules, bool before_arguments, struct wanted *w)
{
    char *letter = stpcpy(w->letters, before_arguments ? "+:h" : ":h");
    struct option *option = w->options;

    for (int i = 0; rules[i].name; i++) {
        bool has_value = rules[i].take && !rules[i].may_lack;

        assert(i < RULES_MAX);
        *option++ = (struct option) {
            .name = rules[i].name,
            .has_arg = has_value ? required_argument
                : rules[i].take  ? optional_argument
                                 : no_argument,
            .val = ID_FIRST + i,
        };
        if (rules[i].letter)
            *letter++ = rules[i].letter;
        if (rules[i].letter && has_value)
            *letter++ = ':';
    }
    *option++ = (struct option) { .name = "help", .val = 'h' };
    *option++ = (struct option) { .name = "version", .val = ID_VERSION };
    *option = (struct option) { .name = NULL };
    *letter = '\0';
}

static const struct option_rule *find_rule(const struct option_rule *rules, int id)
{
    if (id >= ID_FIRST)
        return &rules[id - ID_FIRST];
    while (rules->name && rules->letter != id)
        rules++;
    return rules->name ? rules : NULL;
}

static int take_option(const struct option_rule *rule, void *to)
{
    void *at = (char *) to + rule->at;

    if (rule->take)
        return rule->take(rule, optarg, at) ? PARSE_WRONG : PARSE_RUN;
    *(bool *) at = true;
    return PARSE_RUN;
}

int options_read(int argc, char **argv, const struct option_rule *rules, const char *help,
                 bool before_arguments, void *to)
{
    struct wanted wanted;
    int result = PARSE_RUN, id;

    describe(rules, before_arguments, &wanted);
    opterr = 0;
    optind = 1;
    while (result == PARSE_RUN
           && (id = getopt_long(argc, argv, wanted.letters, wanted.options, NULL)) != -1) {
        const struct option_rule *rule = find_rule(rules, id);

        if (id == 'h')
            return put_out(help, strlen(help));
        if (id == ID_VERSION)
            return put_version();
        result = rule ? take_option(rule, to) : not_understood(argv, id);
    }
    return result;
}

/* ---- values ---- */

int option_file(const struct option_rule *rule, const char *text, void *to)
{
    if (!*text)
        return complain("--%s needs the name of a file", rule->name);
    *(const char **) to = text;
    return 0;
}

int option_number(const struct option_rule *rule, const char *text, void *to)
{
    if (parse_number(text, rule->least, rule->most, to) < 0)
        return complain("--%s '%s' is not a number from %u to %u", rule->name, text, rule->least,
                        rule->most);
    return 0;
}

static char plain(char c)
{
    return c == '-' ? '_' : (char) toupper((unsigned char) c);
}

static bool is_alike(const char *text, const char *name)
{
    while (*text && plain(*text) == plain(*name))
        text++, name++;
    return *text == *name;
}

int option_find_word(const struct option_rule *rule, const char *text)
{
    char choice[256] = "";
    struct fin__line line = { choice, sizeof choice, 0 };
    int first = (int) rule->least, last = (int) rule->most;

    for (int i = first; i <= last; i++) {
        if (is_alike(text, rule->word(i)))
            return i;
        fin__put(&line, "%s%s", i == first ? "" : ", ", rule->word(i));
    }
    complain("--%s '%s' is not one of %s", rule->name, text, choice);
    return -1;
}

int option_word(const struct option_rule *rule, const char *text, void *to)
{
    int found = option_find_word(rule, text);

    if (found < 0)
        return EXIT_TROUBLE;
    *(int *) to = found;
    return 0;
}

/* ---- arguments ---- */

int next_number(int argc, char **argv, const char *what, uint64_t least, int32_t *ret)
{
    uint64_t number;

    if (optind >= argc)
        return complain("say which %s; see 'finack %s --help'", what, speaks_as());
    if (parse_number(argv[optind], least, INT32_MAX, &number) < 0)
        return complain("'%s' is not the number of a %s", argv[optind], what);
    optind++;
    *ret = (int32_t) number;
    return PARSE_RUN;
}

int no_more_arguments(int argc, char **argv)
{
    return optind >= argc
        ? PARSE_RUN
        : complain("'%s' is one too many; see 'finack %s --help'", argv[optind], speaks_as());
}
