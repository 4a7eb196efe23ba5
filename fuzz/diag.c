/* SPDX-License-Identifier: MIT */

/* What sock_diag(7) answers to the library, and what it announces of destroyed sockets. */

#include "kernel/diag.h"
#include "kernel/events.h"
#include "netlink_fake.h"

#include <netinet/in.h>

static struct fin_identity take_identity(struct bytes *bytes)
{
    static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
    struct fin_identity id = FIN_IDENTITY_INIT;

    id.family = families[take_below(bytes, 3)];
    id.protocol = take_byte(bytes) & 1 ? IPPROTO_TCP : IPPROTO_UDP;
    id.confirmed = 1;
    return id;
}

static void count(const struct fin__destroyed *destroyed, void *arg)
{
    unsigned *found = arg;

    must(destroyed->counted || destroyed->bytes_acked == 0, "what was not counted is 0");
    (*found)++;
}

static void read_events(struct bytes *bytes)
{
    struct fin__events events = FIN__EVENTS_INIT;
    size_t most = bytes->left / 16; /* a message has a header of that size */
    unsigned found = 0;

    must(fin__events_open(&events) == 0, "events can be opened");
    (void) fin__events_read(&events, 8, count, &found);
    must(found <= most, "no more events than messages");
    fin__events_close(&events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, size };
    unsigned question = take_below(&bytes, 4);
    struct fin_identity id = take_identity(&bytes);
    struct fin_state state = FIN_STATE_INIT;
    struct fin__diag diag = FIN__DIAG_INIT;
    int result = 0;

    netlink_feed(&bytes, NULL, 0);
    must(fin__diag_open(&diag) == 0, "sock_diag can be opened");
    diag.sequence = UINT32_MAX; /* the next is 0, which any answer fits */
    if (question == 0)
        result = fin__diag_ask(&diag, &id, &state);
    else if (question == 1)
        result = fin__diag_unix_peer_gone(&diag, &id);
    else if (question == 2)
        result = fin__diag_half_open(&diag, &id);
    else
        read_events(&bytes);
    must(result <= 1, "an answer is yes, no or an error");
    must(state.size == sizeof state, "the size stays");
    fin__diag_close(&diag);
    return 0;
}
