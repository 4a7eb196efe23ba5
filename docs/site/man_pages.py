# SPDX-License-Identifier: MIT
"""The directive `man-page`: a manual page that the build made, as HTML by mandoc(1)."""

import os
import subprocess
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).parent.parent.parent
BUILT = Path(os.environ.get("FINACK_BUILD", ROOT / "build")) / "man"


class ManPage(Directive):
    required_arguments = 1

    def run(self):
        path = BUILT / self.arguments[0]
        self.state.document.settings.env.note_dependency(str(path))
        html = subprocess.run(["mandoc", "-T", "html", "-O", "fragment", str(path)], check=True,
                              text=True, stdout=subprocess.PIPE).stdout
        return [nodes.raw("", f'<div class="man-page">{html}</div>', format="html")]


def setup(app):
    app.add_directive("man-page", ManPage)
    return {"parallel_read_safe": True}
