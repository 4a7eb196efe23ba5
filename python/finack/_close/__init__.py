# SPDX-License-Identifier: MIT
"""One close, from request to receipt: of what asyncio has, and of a socket that blocks."""
