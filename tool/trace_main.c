/* SPDX-License-Identifier: MIT */

#include "command.h"
#include "file.h"
#include "say.h"
#include "trace_front.h"

int trace_main(int argc, char **argv)
{
    struct trace_options options;

    switch (trace_options_parse(argc, argv, &options)) {
    case PARSE_DONE:
        return EXIT_FINE;
    case PARSE_WRONG:
        return EXIT_TROUBLE;
    default:
        break;
    }
    if ((options.output && file_check(options.output))
        || (options.html && file_check(options.html)))
        return EXIT_TROUBLE;
    return front_run(&options);
}
