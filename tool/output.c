/* SPDX-License-Identifier: MIT */

#include "output.h"

#include "json.h"
#include "say.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

static char *table_format(const struct probe_result *results, size_t count, int proof,
                          const char *note)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    table_print(out, results, count, proof);
    fputs(note, out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

int output_results(const struct probe_result *results, size_t count, const struct probe_options *o,
                   const char *note)
{
    char *text =
        o->json ? json_format(results, count) : table_format(results, count, o->policy.proof, note);
    int status;

    if (!text)
        return complain("out of memory");
    status = put_out(text, strlen(text));
    free(text);
    return status;
}
