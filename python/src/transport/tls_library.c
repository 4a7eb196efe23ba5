/* SPDX-License-Identifier: MIT */

/* Finding libssl: the one that CPython's own _ssl is linked with, and no other. */

#include "transport/tls.h"

#include <dlfcn.h>
#include <string.h>

struct fin__py_openssl fin__py_openssl;

struct wanted {
    const char *name;
    size_t place;
};

#define WANTED(type, name, parameters) { #name, offsetof(struct fin__py_openssl, name) },

static const struct wanted functions[] = { FIN__PY_OPENSSL(WANTED) };

/* dlsym() of a library looks into those that it needs, too. */
static const char *find_all(void *library, struct fin__py_openssl *found)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *function = dlsym(library, functions[i].name);

        if (!function)
            return functions[i].name;
        memcpy((char *) found + functions[i].place, &function, sizeof function);
    }
    return NULL;
}

static bool is_in(void *library, const char *symbol, const char *file)
{
    void *function = dlsym(library, symbol);
    const char *slash;
    Dl_info info;

    if (!function || dladdr(function, &info) == 0 || !info.dli_fname)
        return false;
    slash = strrchr(info.dli_fname, '/');
    return strncmp(slash ? slash + 1 : info.dli_fname, file, strlen(file)) == 0;
}

/* NULL, or why not. */
static const char *find(const char *path)
{
    struct fin__py_openssl found = { 0 };
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    const char *missing;

    if (!library)
        return "_ssl is no library of its own";
    missing = find_all(library, &found);
    if (missing)
        return "libssl lacks a function";
    if (!is_in(library, "SSL_read_ex", "libssl.so") || !is_in(library, "BIO_new", "libcrypto.so"))
        return "libssl is no shared library";
    fin__py_openssl = found; /* the handle stays open, as the functions are used */
    return NULL;
}

static int fetch_errors(struct fin__py_asyncio *a)
{
    if (!a->ssl_want_read)
        a->ssl_want_read = fin__py_fetch("ssl", "SSLWantReadError");
    if (!a->ssl_want_write)
        a->ssl_want_write = fin__py_fetch("ssl", "SSLWantWriteError");
    return a->ssl_want_read && a->ssl_want_write ? 0 : -1;
}

/* find_openssl(path of _ssl): None, or why it can't be used. */
static PyObject *find_openssl(PyObject *module, PyObject *path)
{
    struct fin__py_module *m = PyModule_GetState(module);
    const char *text = PyUnicode_AsUTF8(path), *missing;

    if (!text || fetch_errors(&m->asyncio) < 0)
        return NULL;
    if (PyInterpreterState_Get()
        != PyInterpreterState_Main()) /* OpenSSL's callbacks enter that one */
        return PyUnicode_FromString("this is a sub-interpreter");
    if (fin__py_openssl.method)
        Py_RETURN_NONE;
    missing = find(text);
    if (missing)
        return PyUnicode_FromString(missing);
    return fin__py_nothing(fin__py_wire_prepare());
}

static PyMethodDef methods[] = {
    { "find_openssl", find_openssl, METH_O, "Why TLS can't be in C; None: it can." },
    { "is_known_layout", fin__py_is_known_layout, METH_O, "Are sessions laid out as is known?" },
    { "is_half_written", fin__py_is_half_written, METH_O, "Is a record of the program's?" },
    { "is_known_session", fin__py_is_known_session, METH_O, "Is it a session of that layout?" },
    { NULL, NULL, 0, NULL },
};

int fin__py_add_tls(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
