/* SPDX-License-Identifier: MIT */

#include "command.h"
#include "file.h"
#include "options.h"
#include "runs.h"
#include "say.h"

int probe_main(int argc, char **argv)
{
    struct probe_options options;

    switch (options_parse(argc, argv, &options)) {
    case PARSE_DONE:
        return EXIT_FINE;
    case PARSE_WRONG:
        return EXIT_TROUBLE;
    default:
        if (options.html_file && file_check(options.html_file))
            return EXIT_TROUBLE;
        return *options.host ? run_remote(&options) : run_embedded(&options);
    }
}
