/* SPDX-License-Identifier: MIT */

#include "tls/errors.h"

#include <openssl/crypto.h>
#include <openssl/err.h>

void fin__errors_save(struct fin__errors *errors)
{
    errors->count = 0;
    while (errors->count < FIN__ERRORS_MAX) {
        struct fin__error *e = &errors->entry[errors->count];
        const char *file, *function, *data;
        int flags;

        e->code = ERR_get_error_all(&file, &e->line, &function, &data, &flags);
        if (!e->code)
            break;
        e->file = OPENSSL_strdup(file);
        e->function = OPENSSL_strdup(function);
        e->data = flags & ERR_TXT_STRING && *data ? OPENSSL_strdup(data) : NULL;
        errors->count++;
    }
}

static void put_back(struct fin__error *e)
{
    ERR_new();
    ERR_set_debug(e->file, e->line, e->function);
    ERR_set_error(ERR_GET_LIB(e->code), ERR_GET_REASON(e->code), e->data ? "%s" : NULL, e->data);
    OPENSSL_free(e->file);
    OPENSSL_free(e->function);
    OPENSSL_free(e->data);
}

void fin__errors_restore(struct fin__errors *errors)
{
    ERR_clear_error();
    for (size_t i = 0; i < errors->count; i++)
        put_back(&errors->entry[i]);
}
