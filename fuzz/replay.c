/* SPDX-License-Identifier: MIT */

/*
 * Without libFuzzer: gives a target every file of a folder, so that what was found once stays
 * found.
 *
 * usage: TARGET FOLDER
 */

#include "bytes.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool replay(const char *folder, const char *name)
{
    char path[1024];
    uint8_t *data = NULL;
    FILE *file;
    long size;
    bool read;

    (void) snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "re");
    if (!file)
        return false;
    read = fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0
        && fseek(file, 0, SEEK_SET) == 0
        && (data = malloc((size_t) size + !size)) /* a read behind it is seen */
        && fread(data, 1, (size_t) size, file) == (size_t) size;
    (void) fclose(file);
    printf("%s\n", name);
    (void) fflush(stdout); /* a crash is to tell which it was */
    if (read)
        LLVMFuzzerTestOneInput(data, (size_t) size);
    free(data);
    return read;
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    struct dirent *entry;
    unsigned count = 0;

    if (!folder)
        return 2;
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.')
            count += replay(argv[1], entry->d_name);
    (void) closedir(folder);
    printf("%u files\n", count);
    return count == 0;
}
