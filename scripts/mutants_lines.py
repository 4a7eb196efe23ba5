# SPDX-License-Identifier: MIT
"""Which lines of the package ran: appended to the file that MUTANTS_LINES names, by each process.

`scripts/mutants` puts it beside the package under the name sitecustomize.py.
"""

import fcntl
import os
import sys

PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "finack") + os.sep
HIGH = 500  # no number that a test looks at; and it is there when none is left


def begin(path):
    events, tool = sys.monitoring.events, sys.monitoring.COVERAGE_ID
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    lines = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(file)

    def ran(code, line):
        """Once for each line, until sys.monitoring.restart_events()."""
        if code.co_filename.startswith(PACKAGE):
            os.write(lines, f"{code.co_filename[len(PACKAGE) :]}:{line}\n".encode())
        return sys.monitoring.DISABLE

    sys.monitoring.use_tool_id(tool, "mutants")
    sys.monitoring.register_callback(tool, events.LINE, ran)
    sys.monitoring.set_events(tool, events.LINE)


if path := os.environ.get("MUTANTS_LINES"):
    begin(path)
