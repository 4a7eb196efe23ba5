# SPDX-License-Identifier: MIT
"""python -m finack APP.py: run an asyncio program, and report what became of its sockets."""

from finack._runner import main

main()
