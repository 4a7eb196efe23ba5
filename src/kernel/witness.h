/* SPDX-License-Identifier: MIT */

/*
 * The witness proves that nothing refers to a description any more. A descriptor is added to an
 * epoll set that nobody waits on before it is closed; the kernel drops the entry exactly when the
 * description is released (eventpoll_release_file() in fs/file_table.c:__fput()), so the set's
 * fdinfo (proc(5)) shows afterwards whether anything still refers to it: a dup, a child, a message
 * in flight, a thread blocked in a call.
 *
 * If the program has closed the set by mistake, the witness is lost. A file that has got the number
 * by then gets no entry of ours, is not read for an answer, and is not closed.
 */

#ifndef FIN_WITNESS_H
#define FIN_WITNESS_H

#include <finack.h>
#include <stdbool.h>

struct fin__witness {
    int set;        /* the epoll set, -1: none */
    int fdinfo;     /* its /proc/.../fdinfo, -1: opened when it is needed */
    int only;       /* the number that its only entry was added under, -1: there may be several */
    unsigned stale; /* entries that were given up: their description is still held */
    int mark;       /* of both descriptors: see base/mark.h */
    uint64_t sure;  /* until then they are taken for ours without a look */
};

/* clang-format off */
#define FIN__WITNESS_INIT { -1, -1, -1, 0, -1, 0 }
/* clang-format on */

/* Opens a witness for any number of closes. Returns 0 or a negative errno; on failure *w stays
 * empty. */
int fin__witness_open(struct fin__witness *w);

/* Opens one that a single close will use: kcmp(2) answers for it where it can, and nothing under
 * /proc is opened. */
int fin__witness_open_for_one(struct fin__witness *w);
void fin__witness_close(struct fin__witness *w);

/* Adds `fd` as `token`, which the caller does not use twice; to be called before it is closed.
 * Returns 0 or a negative errno; -EBADF: its set is lost; -EEXIST: the same description was closed
 * under this number before, and is held since then. */
int fin__witness_add(struct fin__witness *w, int fd, uint64_t token);

/* After -EEXIST: the entry that is there becomes `token`. What it was can't be asked about then. */
int fin__witness_take_over(struct fin__witness *w, int fd, uint64_t token);

/* Does anything still refer to what was added as `token`? If so, writes the inode of it, for a
 * search for the holders; `inode` may be NULL. */
enum fin_answer fin__witness_check(struct fin__witness *w, uint64_t token, uint64_t *inode);

/* Calls visit(token, inode, arg) for every entry that is still there. Returns 0 or a negative
 * errno. */
int fin__witness_read(struct fin__witness *w,
                      void (*visit)(uint64_t token, uint64_t inode, void *arg), void *arg);

/* Is an epoll entry with these events (as fdinfo shows them) that of a witness, of this process or
 * another? */
bool fin__witness_owns(uint32_t events);

/* Each entry given up costs every later read about 0.5 us. */
#define FIN__WITNESS_STALE_MAX 64

/* Replaces a set that is full of entries given up, under the same number, unless no descriptor
 * is free. Nothing may be asked about what was added before. A set that has others' entries is
 * theirs, and is forgotten. */
void fin__witness_renew(struct fin__witness *w);

/* After a failed add: was the set itself closed behind its back, by a stray close() in the program?
 * Then it is forgotten, without a close of what its number may mean by now, and *w is empty. */
bool fin__witness_lost(struct fin__witness *w);

/* Nothing asks about an entry any more although it is held. */
void fin__witness_give_up(struct fin__witness *w);

#endif
