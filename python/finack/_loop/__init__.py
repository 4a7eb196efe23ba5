# SPDX-License-Identifier: MIT
"""EventLoop: its turns, its connections, how it waits and how it ends."""
