/* SPDX-License-Identifier: MIT */

/* No public call is a cancellation point (pthreads(7)). A thread that ended inside one would keep
 * its descriptors and locks, and a handle would wait for it: close(2), poll(2), recv(2) and others
 * that the calls are made of are such points. */

#ifndef FIN_CANCEL_H
#define FIN_CANCEL_H

#include <pthread.h>

static inline int fin__cancel_off(void)
{
    int before = PTHREAD_CANCEL_ENABLE;

    (void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

static inline void fin__cancel_restore(const int *before)
{
    (void) pthread_setcancelstate(*before, NULL);
}

/* Among the declarations of a public function: holds until it returns. */
#define FIN__UNCANCELLED                                                                           \
    __attribute__((cleanup(fin__cancel_restore))) const int uncancelled = fin__cancel_off()

#endif
