/* SPDX-License-Identifier: MIT */

#include "probe/json.h"

#include "common/say.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *probe_json_stages(const struct fin_receipt *receipt)
{
    json_t *object = json_object();
    int i;

    for (i = 0; i < FIN_STAGES; i++) {
        int64_t ns = receipt->stage_ns[i];

        json_object_set_new(object, fin_stage_name(i), ns < 0 ? json_null() : json_integer(ns));
    }
    return object;
}

static json_t *unverifiable(const struct fin_receipt *receipt)
{
    json_t *array = json_array();
    int i;

    for (i = 0; i < FIN_STAGES; i++)
        if (receipt->unverifiable & (1u << i))
            json_array_append_new(array, json_string(fin_stage_name(i)));
    return array;
}

static json_t *seen(const struct peer_view *view)
{
    return json_pack("{s:I, s:b, s:b, s:b}", "bytes", (json_int_t) view->bytes, "close_notify",
                     view->notified, "eof", view->eof, "reset", view->reset);
}

static json_t *probe_json_holders(const struct fin_receipt *receipt)
{
    json_t *array = json_array();
    char command[4 * sizeof receipt->holder->command + 1];
    uint32_t i;

    for (i = 0; i < receipt->holders && i < FIN_RECEIPT_HOLDERS; i++) {
        const struct fin_holder *holder = &receipt->holder[i];

        escape(holder->command, command, sizeof command);
        json_array_append_new(
            array,
            json_pack("{s:i, s:i, s:s}", "pid", holder->pid, "fd", holder->fd, "command", command));
    }
    return array;
}

static json_t *close_object(const struct probe_result *result)
{
    const struct fin_receipt *r = &result->receipt;
    json_t *object = json_pack(
        "{s:s, s:b, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:s, s:s, s:s, s:o, s:I, s:s?}", "peer",
        result->peer, "tls", result->tls, "outcome", fin_outcome_name(r->outcome), "phase",
        fin_phase_name(r->phase), "stages", probe_json_stages(r), "unverifiable", unverifiable(r),
        "unsent", (json_int_t) r->unsent, "unacked", (json_int_t) r->unacked, "discarded",
        (json_int_t) r->discarded, "end", fin_end_name(r->end), "held", fin_answer_name(r->held),
        "search", fin_search_name(r->search), "holders", probe_json_holders(r), "holder_count",
        (json_int_t) r->holders, "error", error_name(r->error));

    if (object && result->has_view)
        json_object_set_new(object, "seen", seen(&result->view));
    if (object && result->verdict != VERDICT_NONE)
        json_object_set_new(object, "expected", json_boolean(result->verdict == VERDICT_OK));
    return object;
}

char *json_format(const struct probe_result *results, size_t count)
{
    json_t *array = json_array();
    char *text, *line = NULL;
    size_t i;

    for (i = 0; i < count; i++)
        if (results[i].closed && json_array_append_new(array, close_object(&results[i])) < 0)
            break;
    text = array && i == count ? json_dumps(array, JSON_INDENT(2)) : NULL;
    json_decref(array);
    if (text && asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    free(text);
    return line;
}
