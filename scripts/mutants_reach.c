/* SPDX-License-Identifier: MIT */
/* Which blocks of the extension ran: a byte for each address in the file that MUTANTS_BLOCKS names,
 * which all processes of a test share. Called by what -fsanitize-coverage=trace-pc compiles. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SIZE = 8 << 20,
};

extern const char __ehdr_start[] __attribute__((visibility("hidden")));

static unsigned char nobody[SIZE];
static unsigned char *ran;

static unsigned char *begin(void)
{
    const char *path = getenv("MUTANTS_BLOCKS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return nobody;
    void *found = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return found == MAP_FAILED ? nobody : found;
}

__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc(void)
{
    if (!ran)
        ran = begin();
    ran[(const char *) __builtin_return_address(0) - __ehdr_start] = 1;
}
