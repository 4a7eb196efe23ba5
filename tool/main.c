/* SPDX-License-Identifier: MIT */

#include "base/line.h"
#include "common/command.h"
#include "common/say.h"
#include "trace/front.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    { "probe", probe_main, "close a connection and show how that went" },
    { "trace", trace_main, "follow every socket of a command" },
    { "ps", ps_main, "list sockets, and say why each is still there" },
    { "attach", attach_main, "ask a running Python program what its loops have open" },
    { "end", end_main, "end a connection that another process has open" },
    { "heal", heal_main, "remove stale entries from the epoll sets of a process" },
    { "export", export_main, "serve the same as Prometheus metrics" },
};
#define COMMANDS (sizeof commands / sizeof *commands)

static int help(void)
{
    char text[1024];
    struct fin__line line = { text, sizeof text, 0 };
    size_t i;

    fin__put(&line, "usage: finack COMMAND [OPTIONS]\n\n");
    for (i = 0; i < COMMANDS; i++)
        fin__put(&line, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fin__put(&line, "\n  -h, --help, --version\n\n");
    fin__put(&line, "For more see 'finack COMMAND --help' and finack(1).\n");
    return put_out(text, line.length);
}

/* Else a socket of ours would get the number of stdout or stderr, and our output would go to its
 * peer. */
static void open_standard_streams(void)
{
    int fd;

    for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            open("/dev/null", O_RDWR);
}

/* glibc would keep freed memory for later allocations: with very many sockets that doubles the
 * memory. */
static void give_memory_back(void)
{
    enum {
        LARGE = 128 << 10
    };

    (void) mallopt(M_MMAP_THRESHOLD, LARGE);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    size_t i;

    open_standard_streams();
    give_memory_back();
    /* Writing to a reader that went away gives EPIPE instead; TLS writes by write(2). */
    front_sigpipe = signal(SIGPIPE, SIG_IGN);
    if (!name)
        return complain("say which command; see 'finack --help'");
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help();
    if (strcmp(name, "--version") == 0)
        return put_version();
    for (i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0) {
            speak_as(name);
            return commands[i].run(argc - 1, argv + 1);
        }
    return complain("there is no command '%s'; see 'finack --help'", name);
}
