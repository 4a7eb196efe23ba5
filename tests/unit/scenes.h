/* SPDX-License-Identifier: MIT */

/* Closes of every kind, to be met by faults. */

#ifndef SCENES_H
#define SCENES_H

#include <finack.h>
#include <stdbool.h>
#include <stddef.h>

#define SCENE_CLIENTS 2

struct scene_run {
    int ours, theirs; /* theirs: the peer's end of a stream, or -1 */
    int copy;         /* of ours, or -1 */
    int other[2];     /* whatever else is open, or -1 */
    int clients[SCENE_CLIENTS];
    size_t clients_count;
    size_t given;        /* bytes for the peer */
    bool peer_ended;     /* the peer has sent its FIN */
    bool deaf;           /* the peer does not read, and its window is full */
    bool waits;          /* for acked and eof */
    bool eof_is_unknown; /* which of the two ended the input */
    const struct fin_layer *layer;
    struct fin_kernel *kernel;
    struct fin_policy policy;
    struct fin_identity id;
};

struct scene {
    const char *name;
    void (*begin)(struct scene_run *run);
    bool with_kernel;
};

extern const struct scene scenes[];
extern const int scenes_count;

/* There are kernels without MPTCP. */
bool scene_is_possible(const struct scene *scene);

void scene_begin(const struct scene *scene, struct scene_run *run);
int scene_close(struct scene_run *run, struct fin_receipt *receipt);

/* Closes what is open still; ours too if it is the caller's. */
void scene_end(struct scene_run *run, bool ours_too);

#endif
