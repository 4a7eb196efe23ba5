/* SPDX-License-Identifier: MIT */

#include "common/ask.h"

#include "common/say.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool ask(const char *question)
{
    char answer[16];

    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        complain("there is no terminal to ask on; use --yes");
        return false;
    }
    (void) write_all(STDERR_FILENO, question, strlen(question));
    (void) write_all(STDERR_FILENO, " [y/N] ", 7);
    return fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y');
}
