/* SPDX-License-Identifier: MIT */

/* A trace's book, and all that is printed of it: addresses as the traced hand them to connect(2),
 * names, errors and times of any value. */

#include "trace/trace.h"
#include "bytes.h"
#include "trace/inspect.h"
#include "trace/json.h"
#include "trace/picture.h"
#include "trace/text.h"

#include <stdlib.h>
#include <string.h>

#define TABLES 3
#define NUMBERS 40
#define SOCKETS_MAX 24
#define EVENT_KINDS (EVENT_GONE + 1)

struct scene {
    struct trace trace;
    struct files *files[TABLES];
    struct thing *thing; /* of the last operation */
    struct thing *set;
    FILE *text, *json;
    char *text_at, *json_at;
    size_t text_size, json_size;
    size_t events, errors; /* that were told */
};

/* ---- operations ---- */

static struct files *some_files(struct bytes *bytes, struct scene *s)
{
    return s->files[take_below(bytes, TABLES)];
}

static void new_socket(struct bytes *bytes, struct scene *s)
{
    uint64_t inode = 1 + take_below(bytes, 8);

    if (s->trace.book.sockets.count == SOCKETS_MAX)
        return;
    s->thing = book_new_socket(&s->trace.book, inode);
    must(s->thing && book_find(&s->trace.book, inode) == s->thing, "the newest is found");
    s->thing->origin = (enum origin) take_below(bytes, ORIGIN_RECEIVED + 1);
    s->thing->family = take_signed(bytes, 2);
    s->thing->type = take_byte(bytes);
    s->thing->protocol = take_signed(bytes, 2);
    s->thing->made.call = "socket";
    s->thing->made.pid = 1;
    (void) take_text(bytes, s->thing->made.command, sizeof s->thing->made.command);
}

static void put(struct bytes *bytes, struct scene *s)
{
    struct files *files = some_files(bytes, s);
    int fd = (int) take_below(bytes, NUMBERS);

    must(files_put(files, fd, s->thing) == 0 && files_get(files, fd) == s->thing, "it is there");
}

static void drop(struct bytes *bytes, struct scene *s)
{
    struct files *files = some_files(bytes, s);

    files_drop(files, take_signed(bytes, 1));
}

/* As the end of a process and a fork. */
static void copy(struct bytes *bytes, struct scene *s)
{
    struct files **to = &s->files[take_below(bytes, TABLES)], *from = some_files(bytes, s);

    if (*to == from)
        return;
    for (size_t fd = 0; fd < (*to)->size; fd++)
        files_drop(*to, (int) fd);
    (void) files_leave(*to);
    *to = files_copy(from);
    must(*to, "memory");
    (*to)->leaving = false;
}

static void register_in(struct bytes *bytes, struct scene *s)
{
    int fd = (int) take_below(bytes, NUMBERS);

    if (registration_find(s->thing, s->set, fd))
        must(registration_remove(s->thing, s->set, fd), "what is found can be removed");
    else
        must(registration_add(s->thing, s->set, take_byte(bytes), fd) == 0, "memory");
}

static void connect_to(struct bytes *bytes, struct scene *s)
{
    size_t size = take_below(bytes, 129), left = size < bytes->left ? size : bytes->left;
    char *address = malloc(left + 1); /* a read behind it is seen */

    must(address, "memory");
    memcpy(address, bytes->at, left);
    bytes->at += left;
    bytes->left -= left;
    inspect_at_target(s->thing, address, left);
    free(address);
}

static void take_end(struct bytes *bytes, struct scene *s)
{
    struct thing *socket = s->thing;

    for (int i = 0; i < FIN_STAGES; i++)
        if (take_byte(bytes) & 1)
            socket->stage_ns[i] = take_number(bytes, take_below(bytes, 9));
    socket->made.ns = take_number(bytes, take_below(bytes, 8));
    socket->stale_ns = take_number(bytes, take_below(bytes, 9));
    socket->stale_until_ns = take_number(bytes, take_below(bytes, 9));
    socket->first_closed = socket->closed = socket->made;
    socket->looked = socket->confirmed = take_byte(bytes) & 1;
    socket->left_open = take_byte(bytes) & 1;
    socket->connected = take_byte(bytes) & 1;
    socket->proof = (enum proof) take_below(bytes, PROOF_WITNESS + 1);
    socket->tcp_state = take_byte(bytes);
    socket->now = take_signed(bytes, 1);
    socket->unread = take_number(bytes, 2);
    socket->unacked = take_number(bytes, 8);
}

static void tell(struct bytes *bytes, struct scene *s)
{
    struct place place = { .pid = take_byte(bytes) & 1, .call = "shutdown" };
    struct event event = { .kind = (enum event_kind) take_below(bytes, EVENT_KINDS),
                           .socket = s->thing,
                           .place = &place };

    place.fd = take_signed(bytes, 1);
    event.other = take_signed(bytes, 1);
    event.error = (int) take_number(bytes, 2) & 4095; /* a filter can make up any (seccomp(2)) */
    (void) take_text(bytes, place.command, sizeof place.command);
    s->errors += event.error != 0;
    json_event(s->json, &event, s->events++ == 0);
    text_event(s->text, &event);
}

static void step_on(struct bytes *bytes, struct scene *s)
{
    static void (*const steps[])(struct bytes *, struct scene *) = {
        put, drop, copy, register_in, connect_to, take_end, tell,
    };
    unsigned step = take_below(bytes, 8);

    if (step == 7 || !s->thing)
        new_socket(bytes, s);
    else
        steps[step](bytes, s);
}

/* ---- what is printed ---- */

static void check_text(FILE *out, char *const *text, const size_t *size)
{
    must(fclose(out) == 0 && strlen(*text) == *size, "no zero byte is printed");
    must(is_harmless(*text), "no control character is printed");
}

static void finish_text(struct scene *s)
{
    text_end(s->text, &s->trace, "");
    check_text(s->text, &s->text_at, &s->text_size);
    free(s->text_at);
}

/* A missing name shows in JSON: a text has "(null)" then, which may be the name of a program
 * too. */
static size_t count_errors(const json_t *events)
{
    size_t count = 0, i;
    json_t *event;

    json_array_foreach(events, i, event) count += json_is_string(json_object_get(event, "error"));
    return count;
}

static void finish_json(struct scene *s)
{
    json_t *value;

    json_end(s->json, &s->trace);
    check_text(s->json, &s->json_at, &s->json_size);
    value = json_loads(s->json_at, 0, NULL);
    must(json_array_size(json_object_get(value, "sockets")) == s->trace.book.sockets.count,
         "JSON has all sockets");
    must(count_errors(json_object_get(value, "events")) == s->errors, "every error has a name");
    json_decref(value);
    free(s->json_at);
}

static void draw(const struct scene *s)
{
    struct trace_picture drawn;
    size_t size;
    char *page;

    must(trace_picture_make(&drawn, &s->trace) == 0, "there is a picture");
    page = picture_page(&drawn.picture, &size);
    must(page, "there is a page");
    free(page);
    trace_picture_free(&drawn);
}

/* ---- a trace ---- */

static void begin(struct scene *s, const struct trace_options *options)
{
    *s = (struct scene) { .trace = { .options = options, .ended = -1 } };
    must(book_open(&s->trace.book) == 0, "memory");
    s->set = book_new_set(&s->trace.book);
    must(s->set, "memory");
    for (int i = 0; i < TABLES; i++) {
        s->files[i] = files_new();
        must(s->files[i], "memory");
    }
    s->json = open_memstream(&s->json_at, &s->json_size);
    s->text = open_memstream(&s->text_at, &s->text_size);
    must(s->text && s->json, "memory");
    json_begin(s->json, options, 1);
}

static void finish(struct scene *s)
{
    uint64_t refs = 0;

    finish_text(s);
    finish_json(s);
    draw(s);
    for (int i = 0; i < TABLES; i++) {
        for (size_t fd = 0; fd < s->files[i]->size; fd++)
            files_drop(s->files[i], (int) fd);
        must(files_leave(s->files[i]), "a table has one user");
    }
    for (size_t i = 0; i < s->trace.book.sockets.count; i++)
        refs += s->trace.book.sockets.at[i]->refs;
    must(refs == 0, "references are counted");
    book_close(&s->trace.book);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, size };
    char word[64], *command[] = { word, NULL };
    struct trace_options options = { .json = true, .command = command };
    struct scene scene;

    (void) take_text(&bytes, word, sizeof word);
    begin(&scene, &options);
    scene.trace.end_ns = take_number(&bytes, 6);
    while (bytes.left > 0)
        step_on(&bytes, &scene);
    finish(&scene);
    return 0;
}
