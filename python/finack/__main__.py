# SPDX-License-Identifier: MIT
"""python -m finack APP.py: run an asyncio program, and report what became of its sockets."""

import sys

import finack

if sys.argv[1:] == ["--version"]:
    print(f"finack {finack.__version__}")
elif finack._extension:
    from finack._runner import main

    main()
else:
    sys.exit("python -m finack needs Linux and finack's extension, which is not in use here")
