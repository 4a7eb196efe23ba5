/* SPDX-License-Identifier: MIT */

/* What `finack ps` was asked to do. */

#ifndef TOOL_PS_OPTIONS_H
#define TOOL_PS_OPTIONS_H

#include "common/arguments.h"
#include "ps/remote.h"
#include "sockets/socket.h"

#include <stdbool.h>
#include <stdint.h>

#define PS_NUMBERS_MAX 64

/* A list of numbers; none: all are wanted. */
struct ps_numbers {
    uint32_t at[PS_NUMBERS_MAX];
    size_t count;
};

enum ps_sort {
    SORT_VERDICT, /* the worst first */
    SORT_PROTO,
    SORT_STATE,
    SORT_PORT,
    SORT_PID,
    SORT_RECEIVE, /* queues and rates: the greatest first */
    SORT_SEND,
    SORT_AGE, /* since the peer's end, the longest first */
    SORT_RATE,
};
#define PS_SORTS 9

#define PS_WORDS_MAX 16
#define PS_WORD 64

/* A list of names; none: all are wanted. */
struct ps_words {
    char at[PS_WORDS_MAX][PS_WORD];
    size_t count;
};

struct ps_remotes {
    struct ps_remote at[PS_WORDS_MAX];
    size_t count;
};

enum ps_group {
    GROUP_NONE,
    GROUP_PROCESS,
    GROUP_COMMAND,
    GROUP_REMOTE,
    GROUP_CONTAINER,
};
#define PS_GROUPS 5

struct ps_options {
    bool ghosts, json, watch;
    bool end, yes; /* end the connections that are shown; without asking */
    int32_t interval_ms;
    unsigned protocols; /* bits 1u << enum protocol */
    unsigned states;    /* bits 1u << state */
    const char *netns;  /* NULL: our own */
    struct ps_numbers pids, ports, users;
    struct ps_words commands;
    struct ps_remotes remotes;
    int32_t older_ms; /* 0: of any age */
    enum ps_sort sort;
    enum ps_group group;
    const char *record; /* NULL: nowhere */
    const char *since;  /* NULL: what is there now */
};

int ps_options_parse(int argc, char **argv, struct ps_options *o);

/* For option_rule.take: into a struct ps_numbers, and a const char *. */
int ps_take_numbers(const struct option_rule *rule, const char *list, void *to);
int ps_take_netns(const struct option_rule *rule, const char *text, void *to);

#endif
