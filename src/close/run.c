/* SPDX-License-Identifier: MIT */

#include "close/run.h"

#include "base/descriptor.h"

static void run_release(const struct fin__driver *driver, void *self, struct fin__endpoint *ep,
                        struct fin__event *ev)
{
    int result = driver->release ? driver->release(self, ep->fd, &ev->facts) : fin__release(ep->fd);

    ev->kind = result < 0 ? FIN__FAILED : FIN__DONE;
    ev->error = result;
    ep->fd = -1;
}

void fin__run(const struct fin__driver *driver, void *self, struct fin_kernel *kernel,
              struct fin__endpoint *ep, const struct fin__machine *m, enum fin__action action,
              struct fin__event *ev)
{
    *ev = (struct fin__event) { .kind = FIN__DONE };
    switch (action) {
    case FIN__UNWATCH:
        driver->unwatch(self);
        break;
    case FIN__WITNESS:
        driver->prepare_proof(self, ev);
        break;
    case FIN__RELEASE:
        run_release(driver, self, ep, ev);
        break;
    case FIN__CHECK:
        driver->check(self, ev);
        break;
    case FIN__INSPECT:
        driver->inspect(self, ev);
        break;
    default:
        fin__endpoint_do(ep, kernel, m, action, ev);
        break;
    }
}
