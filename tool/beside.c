/* SPDX-License-Identifier: MIT */

#include "beside.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>

struct one {
    void (*job)(void *arg, size_t index);
    void *arg;
    size_t index;
    pthread_t thread;
    bool made;
};

static void *run_one(void *data)
{
    struct one *one = data;

    one->job(one->arg, one->index);
    return NULL;
}

void beside_run(size_t count, void (*job)(void *arg, size_t index), void *arg)
{
    struct one all[BESIDE_MAX];

    assert(count <= BESIDE_MAX);
    for (size_t i = 1; i < count; i++) {
        all[i] = (struct one) { .job = job, .arg = arg, .index = i };
        all[i].made = pthread_create(&all[i].thread, NULL, run_one, &all[i]) == 0;
    }
    job(arg, 0);
    for (size_t i = 1; i < count; i++) {
        if (all[i].made)
            pthread_join(all[i].thread, NULL);
        else
            job(arg, i);
    }
}
