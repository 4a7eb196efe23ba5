/* SPDX-License-Identifier: MIT */

#include "common/jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct jobs {
    atomic_size_t next;
    atomic_bool stopped;
    size_t count;
    job_fn *job;
    void *arg;
};

static void *work(void *data)
{
    struct jobs *jobs = data;
    size_t i;

    while (!atomic_load(&jobs->stopped) && (i = atomic_fetch_add(&jobs->next, 1)) < jobs->count)
        if (jobs->job(jobs->arg, i) < 0)
            atomic_store(&jobs->stopped, true);
    return NULL;
}

void jobs_run(size_t count, size_t width, job_fn *job, void *arg)
{
    struct jobs jobs = { .count = count, .job = job, .arg = arg };
    pthread_t threads[JOBS_WIDTH_MAX];
    size_t made = 0;

    if (width > JOBS_WIDTH_MAX)
        width = JOBS_WIDTH_MAX;
    while (made + 1 < width && made + 1 < count
           && pthread_create(&threads[made], NULL, work, &jobs) == 0)
        made++;
    work(&jobs);
    while (made > 0)
        pthread_join(threads[--made], NULL);
}
