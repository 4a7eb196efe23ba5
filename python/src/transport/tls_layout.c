/* SPDX-License-Identifier: MIT */

/* Where CPython keeps the SSL of an SSLObject. That is private, and the same in 3.11 to 3.15.
 * Each session is checked before its pointers are followed, and so is what they lead to. The
 * first one's pointer is not followed before it is known to lead to an SSL. */

#include "transport/tls.h"

#include "base/descriptor.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <string.h>
#include <unistd.h>

#define lib fin__py_openssl
#define APP_DATA 0 /* the index that SSL_get_app_data() stands for */

/* The beginning of _ssl._SSLSocket. */
struct session {
    PyObject ob_base;
    PyObject *sock; /* a weak reference; NULL: it is on memory BIOs */
    struct ssl_st *ssl;
    PyObject *context;
};

/* The beginning of _ssl._SSLContext. */
struct context {
    PyObject ob_base;
    struct ssl_ctx_st *ctx;
};

static bool is_named(const PyObject *object, const char *name, size_t size)
{
    const PyTypeObject *type = Py_TYPE(object);

    return strcmp(type->tp_name, name) == 0 && (size_t) type->tp_basicsize >= size;
}

static bool is_pointer(const void *pointer)
{
    return pointer && (uintptr_t) pointer % alignof(void *) == 0;
}

/* The member behind the SSL must be the context, which CPython tells by a property too. */
static bool looks_right(const struct session *session)
{
    PyObject *context = PyObject_GetAttrString((PyObject *) session, "context");
    bool is_right = context && session->context == context && is_pointer(session->ssl)
        && is_pointer(((struct context *) context)->ctx);

    PyErr_Clear();
    Py_XDECREF(context);
    return is_right;
}

/* OpenSSL confirms it: CPython has noted the object in the SSL. */
static bool is_right(const struct session *session)
{
    const struct context *context = (struct context *) session->context;

    return lib.SSL_get_ex_data(session->ssl, APP_DATA) == (const void *) session
        && lib.SSL_get_SSL_CTX(session->ssl) == context->ctx;
}

static const struct session *session_at(PyObject *object, bool on_memory)
{
    const struct session *session = (struct session *) object;

    if (!lib.method || !is_named(object, "_ssl._SSLSocket", sizeof *session))
        return NULL;
    if (on_memory ? session->sock != NULL : !session->sock || !PyWeakref_Check(session->sock))
        return NULL;
    return looks_right(session) ? session : NULL;
}

struct ssl_st *fin__py_ssl_of(PyObject *object, bool on_memory)
{
    const struct session *session = session_at(object, on_memory);

    return session && is_right(session) ? session->ssl : NULL;
}

/* ---- the first one ---- */

/* The kernel reads for us: it says EFAULT where we would crash. 1, 0, or -1 with OSError: there is
 * no descriptor for that. */
static int read_safely(const void *from, void *to, size_t size)
{
    int ends[2];
    bool done;

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        (void) fin__py_os_error(-errno);
        return -1;
    }
    done =
        write(ends[1], from, size) == (ssize_t) size && read(ends[0], to, size) == (ssize_t) size;
    fin__drop(&ends[0]);
    fin__drop(&ends[1]);
    return done;
}

static void *base_of(const void *address)
{
    Dl_info info;

    return dladdr(address, &info) ? info.dli_fbase : NULL;
}

/* At its beginning an SSL of OpenSSL 1.1 to 3.x has a pointer to its method, which is libssl's. */
static int is_ssl(const struct ssl_st *ssl)
{
    void *function, *words[4];
    int result = read_safely(ssl, words, sizeof words);

    memcpy(&function, &lib.SSL_read_ex, sizeof function);
    if (result <= 0)
        return result;
    for (size_t i = 1; i < sizeof words / sizeof *words; i++)
        if (words[i] && base_of(words[i]) == base_of(function))
            return 1;
    return 0;
}

PyObject *fin__py_is_known_layout(PyObject *module, PyObject *object)
{
    const struct session *session = session_at(object, true);
    int known = session ? is_ssl(session->ssl) : 0;

    (void) module;
    return known < 0 ? NULL : PyBool_FromLong(known && is_right(session));
}

PyObject *fin__py_is_known_session(PyObject *module, PyObject *session)
{
    (void) module;
    return PyBool_FromLong(fin__py_ssl_of(session, true) != NULL);
}
