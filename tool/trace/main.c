/* SPDX-License-Identifier: MIT */

#include "common/command.h"
#include "common/file.h"
#include "common/say.h"
#include "trace/front.h"

int trace_main(int argc, char **argv)
{
    struct trace_options options;
    enum parse_result parsed = trace_options_parse(argc, argv, &options);

    if (parsed != PARSE_RUN)
        return parse_status(parsed);
    if ((options.output && file_check(options.output))
        || (options.html && file_check(options.html)))
        return EXIT_TROUBLE;
    return front_run(&options);
}
