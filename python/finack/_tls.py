# SPDX-License-Identifier: MIT
"""The standard library's ssl; where this Python was built without it, what stands in for it.

Nothing is an instance of the stand-in's classes, and nobody raises its errors.
"""

from typing import TYPE_CHECKING

__all__ = ["ssl"]

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
