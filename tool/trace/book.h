/* SPDX-License-Identifier: MIT */

/* The records of a trace: the sockets that were seen, and which descriptors of the traced
 * processes refer to them. It makes no system call. */

#ifndef TOOL_TRACE_BOOK_H
#define TOOL_TRACE_BOOK_H

#include "common/list.h"

#include <finack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Where something happened. Times are nanoseconds since the trace began. */
struct place {
    uint64_t ns;
    pid_t pid; /* 0: the kernel did it, in its own time */
    pid_t tid;
    char command[16]; /* the name of the thread; any bytes */
    const char *call; /* static; "exit" and "killed" when the process ended */
    int fd;
    char *stack; /* with --stack: a frame a line, innermost first */
};

enum origin {
    ORIGIN_MADE,
    ORIGIN_ACCEPTED,
    ORIGIN_INHERITED, /* the command was started with it */
    ORIGIN_FOUND,     /* it was there when we attached */
    ORIGIN_RECEIVED,  /* in a message, or in a way that was not seen */
};

enum proof {
    PROOF_NONE,
    PROOF_COUNT,   /* no traced process has it */
    PROOF_WITNESS, /* the kernel's word */
};

#define NEVER UINT64_MAX

/* An entry in an epoll set, of a socket under a number. */
struct registration {
    struct registration *next;
    struct thing *set;
    int set_fd;
    int fd;
    uint64_t stale_ns; /* when the number was closed while others held the socket, or NEVER */
};

/* Something that descriptors refer to: a socket, or an epoll set. */
struct thing {
    uint32_t id;      /* of a socket, from 1; 0: an epoll set */
    uint32_t refs;    /* descriptors of traced processes */
    uint32_t leaving; /* of those, in tables whose last thread is ending */
    uint32_t closing; /* descriptors that a thread is inside close(2) with: they count no more */
    struct registration *registrations;

    /* what a socket is */
    enum origin origin;
    bool known; /* `identity` is filled */
    struct fin_identity identity;
    int family, type, protocol;
    uint64_t inode;
    char *local, *remote; /* printable, or NULL */

    /* what happened to it */
    struct place made;
    struct place first_closed; /* by a call of the program's; .call is NULL before */
    struct place closed;       /* the last so far, in any way */
    struct place open; /* who had it when we detached, if its peer had ended; else .call is NULL */
    uint64_t peer_ended_ns; /* ... since when; 0: before the trace */
    uint64_t peer_ended_ago_ns;
    uint64_t connected_ns;
    uint64_t stage_ns[FIN_STAGES];
    uint64_t seen_held_ns; /* when the witness said so last, after the release; 0: never */
    uint64_t stale_ns;     /* of the first registration left behind */
    uint64_t stale_until_ns;
    bool left_open; /* its last descriptor was closed by the end of a process */
    bool killed;    /* ... that a signal killed */
    bool listening;
    bool connected; /* it had a peer when it was looked at */

    /* what the kernel said at the last close */
    bool looked;
    bool reset; /* SO_LINGER of no time */
    int tcp_state;
    uint64_t unread, unacked;
    bool witnessed; /* it is in the witness's set */
    enum proof proof;
    int now;                    /* state of the kernel's connection when last asked, 0: none */
    bool confirmed;             /* sock_diag found it while it was open */
    struct thing *next_pending; /* see after.h */
    bool pending, held_now;
    struct thing *next_of_inode;

    struct holders *holders; /* once they were searched for; NULL: none were found */
};

/* The first that have a socket open. */
struct holders {
    unsigned count;
    struct fin_holder at[8];
};

/* A descriptor table, which threads share. */
struct files {
    unsigned users;
    unsigned exiting; /* of those users */
    bool leaving;     /* all of them: what is in it counts as leaving */
    bool suspect;     /* calls that we can't read may have changed it since the last comparison */
    uint64_t compared_ns;
    size_t size;
    struct thing **slot; /* by number */
};

struct book {
    LIST(struct thing *) sockets; /* by id - 1 */
    struct thing **by_inode;      /* INODE_BUCKETS lists */
    struct thing *sets;           /* all epoll sets, by next_of_inode */
};

/* Each returns 0 or -ENOMEM. */
int book_open(struct book *book);
void book_close(struct book *book);

struct thing *book_new_socket(struct book *book, uint64_t inode);
struct thing *book_new_set(struct book *book);

/* The socket of this inode that was seen last and is not known to be over, or NULL. */
struct thing *book_find(const struct book *book, uint64_t inode);

struct files *files_new(void);
struct files *files_copy(const struct files *files);
/* One user less; frees it with the last. Returns true then. References must be dropped before. */
bool files_leave(struct files *files);

struct thing *files_get(const struct files *files, int fd);
int files_put(struct files *files, int fd, struct thing *thing);
/* Empties the slot; the thing has one reference less. */
void files_drop(struct files *files, int fd);
/* What is in it is as good as closed. */
void files_begin_leaving(struct files *files);

int registration_add(struct thing *socket, struct thing *set, int set_fd, int fd);
/* By set and number, which are its key; NULL: there is none. */
struct registration *registration_find(const struct thing *socket, const struct thing *set, int fd);
/* False if there was none. */
bool registration_remove(struct thing *socket, const struct thing *set, int fd);
/* How many there are whose epoll set has a descriptor still. */
unsigned registration_count(const struct thing *socket);

const char *origin_name(enum origin origin);

#endif
