# SPDX-License-Identifier: MIT
"""A web client that goes away properly: asks, leaves the answer unread, and prints the receipt."""

import asyncio
import sys

import finack


async def main(port: int) -> bool:
    """Whether all went as the policy asked."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    receipt = await finack.aclose(writer, finack.Policy(linger=5.0))
    print(receipt)
    return receipt.outcome == "graceful"


if __name__ == "__main__":
    sys.exit(not finack.run(main(int(sys.argv[1]))))
