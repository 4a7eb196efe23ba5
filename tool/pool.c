/* SPDX-License-Identifier: MIT */

#include "pool.h"

#include "progress.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct pool {
    atomic_size_t next;
    atomic_bool stopped;
    size_t count;
    pool_job *job;
    void *arg;
};

static void *work(void *data)
{
    struct pool *pool = data;
    size_t i;

    while (!atomic_load(&pool->stopped) && (i = atomic_fetch_add(&pool->next, 1)) < pool->count) {
        if (pool->job(pool->arg, i) < 0)
            atomic_store(&pool->stopped, true);
        progress_step();
    }
    return NULL;
}

void pool_run(size_t count, size_t width, pool_job *job, void *arg)
{
    struct pool pool = { .count = count, .job = job, .arg = arg };
    pthread_t threads[POOL_WIDTH_MAX];
    size_t made = 0;

    if (width > POOL_WIDTH_MAX)
        width = POOL_WIDTH_MAX;
    progress_begin(count, "closed");
    while (made < width && made < count && pthread_create(&threads[made], NULL, work, &pool) == 0)
        made++;
    if (made == 0)
        work(&pool);
    while (made > 0)
        pthread_join(threads[--made], NULL);
    progress_end();
}
