/* SPDX-License-Identifier: MIT */

#include "base/errors.h"
#include "base/line.h"
#include "close/given.h"

#include <errno.h>
#include <finack.h>
#include <inttypes.h>
#include <sys/socket.h>

static void put_stages(struct fin__line *line, const struct fin_receipt *receipt)
{
    fin__put(line, "\"stages\": {");
    for (int stage = 0; stage < FIN_STAGES; stage++) {
        fin__put(line, "%s\"%s\": ", stage ? ", " : "", fin_stage_name(stage));
        if (receipt->stage_ns[stage] < 0)
            fin__put(line, "null");
        else
            fin__put(line, "%" PRId64, receipt->stage_ns[stage]);
    }
    fin__put(line, "}, \"unverifiable\": [");
    for (int stage = 0, listed = 0; stage < FIN_STAGES; stage++)
        if (receipt->unverifiable & (1u << stage))
            fin__put(line, "%s\"%s\"", listed++ ? ", " : "", fin_stage_name(stage));
    fin__put(line, "]");
}

static void put_holders(struct fin__line *line, const struct fin_receipt *receipt)
{
    fin__put(line, "\"search\": \"%s\", \"holders\": [", fin_search_name(receipt->search));
    for (uint32_t i = 0; i < receipt->holders && i < FIN_RECEIPT_HOLDERS; i++) {
        const struct fin_holder *holder = &receipt->holder[i];

        fin__put(line, "%s{\"pid\": %" PRId32 ", \"fd\": %" PRId32 ", \"command\": \"",
                 i ? ", " : "", holder->pid, holder->fd);
        fin__put_foreign(line, holder->command, sizeof holder->command, 1);
        fin__put(line, "\"}");
    }
    fin__put(line, "], \"holder_count\": %" PRIu32, receipt->holders);
}

static void put_address(struct fin__line *line, const char *name, int family,
                        const uint8_t address[16], uint16_t port)
{
    if (port == 0 || (family != AF_INET && family != AF_INET6)) {
        fin__put(line, ", \"%s\": null", name);
        return;
    }
    fin__put(line, ", \"%s\": \"", name);
    fin__put_address(line, family, address, port);
    fin__put(line, "\"");
}

static void put_error(struct fin__line *line, int error)
{
    const char *name = error ? fin__error_name(-error) : NULL;

    if (!error)
        fin__put(line, "\"error\": null");
    else if (name)
        fin__put(line, "\"error\": \"%s\"", name);
    else
        fin__put(line, "\"error\": \"%d\"", -error);
}

int fin_receipt_json(const struct fin_receipt *receipt, char *buf, size_t size)
{
    struct fin__line line = { buf, size, 0 };
    struct fin_receipt whole;
    int result = fin__receipt_whole(receipt, buf, size, &whole);

    if (result < 0)
        return result;
    receipt = &whole;
    fin__put(&line, "{\"outcome\": \"%s\", \"phase\": \"%s\", \"end\": \"%s\", \"held\": \"%s\", ",
             fin_outcome_name(receipt->outcome), fin_phase_name(receipt->phase),
             fin_end_name(receipt->end), fin_answer_name(receipt->held));
    put_stages(&line, receipt);
    fin__put(&line,
             ", \"unsent\": %" PRIu64 ", \"unacked\": %" PRIu64 ", \"discarded\": %" PRIu64
             ", \"accepted\": %" PRIu64 ", \"forced\": %s, \"tombstone\": %s, ",
             receipt->unsent, receipt->unacked, receipt->discarded, receipt->accepted,
             receipt->forced ? "true" : "false", receipt->tombstone ? "true" : "false");
    put_holders(&line, receipt);
    fin__put(&line, ", ");
    put_error(&line, receipt->error);
    fin__put(&line, ", \"kind\": \"%s\"", fin_kind_name(receipt->kind));
    put_address(&line, "local", receipt->family, receipt->local, receipt->local_port);
    put_address(&line, "remote", receipt->family, receipt->remote, receipt->remote_port);
    fin__put(&line, "}");
    return (int) line.length;
}
