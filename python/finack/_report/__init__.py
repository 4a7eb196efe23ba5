# SPDX-License-Identifier: MIT
"""What closes leave behind, and who hears of it."""
