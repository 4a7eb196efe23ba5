# SPDX-License-Identifier: MIT
"""Whether OpenSSL itself can be asked of a session of the standard library's ssl.

The place of the SSL in CPython's structures must be the one that is known; that is looked at once,
and for each session (python/src/transport/tls_layout.c). It can't be asked in debug builds and in
sub-interpreters, nor where libssl is no shared library.
"""

import functools
import sys
import sysconfig
from typing import Any

from finack import _core, _private
from finack._tls import ssl

_NEWEST = (3, 15)


def why_not() -> str | None:
    """Why OpenSSL can't be asked, nor TLS be in C; None: it can."""
    try:
        return _reason()
    except OSError as error:  # it is no more than that no descriptor is free
        return str(error)


@functools.cache
def _reason() -> str | None:
    if not ssl.OPENSSL_VERSION.startswith("OpenSSL "):
        return "it is another library than OpenSSL"
    if sys.version_info[:2] > _NEWEST or hasattr(sys, "gettotalrefcount"):
        return "this CPython is not known"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this CPython has no lock of the interpreter"
    reason = _core.find_openssl(_private.library_of_tls())
    if reason is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        one = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        if not _core.is_known_layout(_private.session_of(one)):
            reason = "CPython's structures are not laid out as is known"
    return reason


def is_half_written(session: Any) -> bool | None:
    """Whether a record of a session on a socket is, which nobody but the program could complete.

    None: OpenSSL can't be asked.
    """
    return _core.is_half_written(session) if why_not() is None else None
