# SPDX-License-Identifier: MIT
"""Sockets of this process: what they are called, where they were made, which of them a loop has."""
