/* SPDX-License-Identifier: MIT */

/* Waterfalls, on a page or on a terminal: a bar for each close, which shows where its time went.
 * A callback gives one close after the other. */

#ifndef TOOL_PICTURE_H
#define TOOL_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PICTURE_STAGES_MAX 16
#define PICTURE_FACTS_MAX 8

/* What a piece of a bar was spent on. */
enum picture_part {
    PART_USE,      /* before the close was asked for */
    PART_FLUSH,    /* sending what is ours, FIN included */
    PART_FAREWELL, /* TLS: our close_notify, and its answer if that was waited for */
    PART_LINGER,   /* waiting for the peer */
    PART_RELEASE,  /* letting the descriptor go */
    PART_PROOF,    /* after release, until it was proved */
};
#define PICTURE_PARTS 6

/* A time that a stage does not have. */
enum {
    PICTURE_NOT_REACHED = -1,
    PICTURE_UNVERIFIABLE = -2
};

struct picture_fact {
    const char *label;
    const char *value;
};

/* One close. Texts may hold any bytes: they are escaped when shown, but for the ends of
 * lines in the receipt. */
struct picture_close {
    const char *name;
    const char *outcome;                        /* one of few words */
    const char *text;                           /* the receipt */
    uint64_t start_ns;                          /* CLOCK_MONOTONIC */
    int64_t stage_ns[PICTURE_STAGES_MAX];       /* since the start, or PICTURE_... */
    enum picture_part part[PICTURE_STAGES_MAX]; /* of the piece that the stage ends */
    bool held;                                  /* something refers to the socket still */
    struct picture_fact fact[PICTURE_FACTS_MAX];
    unsigned facts;
};

struct picture {
    const char *title;
    const char *const *stages; /* their names */
    size_t stage_count;
    size_t count; /* of closes */
    /* Fills in the close at `index`; what it points to lives until the next call. */
    void (*get)(const struct picture *picture, size_t index, struct picture_close *close);
    const void *arg; /* for get */
};

struct picture_piece {
    int64_t end_ns; /* since the start of the close; it begins where the one before ends */
    enum picture_part part;
};

const char *picture_part_name(enum picture_part part);

/* The bar: at most PICTURE_STAGES_MAX pieces in the order of time, neighbours of one part joined.
 * Returns how many. */
size_t picture_pieces(const struct picture *picture, const struct picture_close *close,
                      struct picture_piece *pieces);

/* A page for browsers that holds all it needs: NULL if memory is out; free(3) it. */
char *picture_page(const struct picture *picture, size_t *ret_size);

/* Lines for a terminal of `width` columns that terminal_draws(): the bars of all closes if they are
 * few, else of the slowest. As picture_page(); empty if the terminal is too narrow for anything. */
char *picture_lines(const struct picture *picture, int width);

#endif
