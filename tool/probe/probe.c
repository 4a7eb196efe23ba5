/* SPDX-License-Identifier: MIT */

#include "common/command.h"
#include "common/file.h"
#include "common/say.h"
#include "probe/options.h"
#include "probe/runs.h"

int probe_main(int argc, char **argv)
{
    struct probe_options options;
    int parsed = options_parse(argc, argv, &options);

    if (parsed != PARSE_RUN)
        return parsed;
    if (options.html_file && file_check(options.html_file))
        return EXIT_TROUBLE;
    return *options.host ? run_remote(&options) : run_embedded(&options);
}
