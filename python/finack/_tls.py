# SPDX-License-Identifier: MIT
"""The standard library's ssl; where this Python was built without it, what stands in for it.

Nothing is an instance of the stand-in's classes, and nobody raises its errors.
"""

from typing import TYPE_CHECKING

__all__ = ["REFUSALS", "is_half_written", "ssl"]

if TYPE_CHECKING:
    import ssl
else:
    try:
        import ssl
    except ImportError:

        class ssl:  # the module's name
            """Without TLS."""

            OPENSSL_VERSION = ""

            class SSLObject: ...

            class SSLSocket: ...

            class SSLContext: ...

            class MemoryBIO: ...

            class SSLError(OSError): ...

            class SSLWantReadError(SSLError): ...

            class SSLWantWriteError(SSLError): ...

            class SSLZeroReturnError(SSLError): ...


# By which OpenSSL refuses to write anything else while a record is half written.
REFUSALS = ("BAD_LENGTH", "BAD_WRITE_RETRY")


def is_half_written(sock: "ssl.SSLSocket") -> bool:
    """Whether a record is, which only the program could complete."""
    sock.settimeout(0)
    try:
        if sock.cipher() is not None:
            sock.send(b"")
    except OSError as error:
        return getattr(error, "reason", None) in REFUSALS
    return False
