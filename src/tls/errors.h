/* SPDX-License-Identifier: MIT */

/* The thread's OpenSSL error queue, kept for the program while the session is used for the close.
 * A mark (ERR_set_mark) does not do it: the session clears the whole queue when it meets a
 * handshake message, and session tickets are such. */

#ifndef FIN_TLS_ERRORS_H
#define FIN_TLS_ERRORS_H

#include <stddef.h>

#define FIN__ERRORS_MAX 16 /* what the queue holds */

struct fin__error {
    unsigned long code;
    int line;
    char *file, *function, *data;
};

struct fin__errors {
    size_t count;
    struct fin__error entry[FIN__ERRORS_MAX];
};

/* Empties the queue into `errors`. Texts are lost if there is no memory for them. */
void fin__errors_save(struct fin__errors *errors);

/* Makes the queue what it was. */
void fin__errors_restore(struct fin__errors *errors);

#endif
