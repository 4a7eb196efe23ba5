/* SPDX-License-Identifier: MIT */

#include "picture/picture.h"

const char *picture_part_name(enum picture_part part)
{
    static const char *const names[PICTURE_PARTS] = {
        "use", "flush", "farewell", "linger", "release", "proof",
    };

    return names[part];
}

/* Keeps them in the order of time; at the same time in the order of the ladder. */
static void insert(struct picture_piece *pieces, size_t count, struct picture_piece piece)
{
    for (; count > 0 && pieces[count - 1].end_ns > piece.end_ns; count--)
        pieces[count] = pieces[count - 1];
    pieces[count] = piece;
}

static size_t picture_join(struct picture_piece *pieces, size_t count)
{
    size_t kept = 0, i;

    for (i = 0; i < count; i++) {
        if (kept > 0 && pieces[i].end_ns == pieces[kept - 1].end_ns)
            continue;
        if (kept > 0 && pieces[i].part == pieces[kept - 1].part)
            kept--;
        pieces[kept++] = pieces[i];
    }
    return kept;
}

size_t picture_pieces(const struct picture *picture, const struct picture_close *close,
                      struct picture_piece *pieces)
{
    size_t count = 0, i;

    for (i = 0; i < picture->stage_count; i++) {
        struct picture_piece piece = { close->stage_ns[i], close->part[i] };

        if (piece.end_ns > 0)
            insert(pieces, count++, piece);
    }
    return picture_join(pieces, count);
}
