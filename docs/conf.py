# SPDX-License-Identifier: MIT
"""Sphinx: the site, from this folder. `./dev docs` builds it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))

project = "finack"
copyright = "the finack authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "captions", "c_headers", "man_pages", "ladder"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"] if tags.has("draft") else []  # noqa: F821
exclude_patterns = ["site"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"

# Everything is in the page's own folder: nothing is fetched from elsewhere.
html_theme = "furo"
html_title = "finack"
html_static_path = ["site/static"]
html_css_files = ["finack.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
