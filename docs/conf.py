"""Settings of the documentation site; `make docs` builds it without a network.

The source folder is the root of the repository, so that links from the documents to tables, model cards and
other files mean the same on the site as in a copy of the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from mrharmony.core.version import __version__

project = "mrharmony"
author = "The mrharmony developers"
copyright = author
release = version = __version__

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "benchmarks/README.md",
    "benchmarks/results/**.md",
    "src/mrharmony/weights/*/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".git", ".venv", "build", "dist", "tests", "benchmarks/work", "demo-output"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_line",
    "own_kernel",
    "sidecar_fields",
]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # committed tables begin where their script begins

nb_execution_mode = "force"  # what a page shows is what the code of today gives
nb_execution_in_temp = True  # what a lesson saves stays out of the repository
nb_execution_raise_on_error = True
nb_execution_timeout = 240  # seconds, for a cell; the slowest takes a few
nb_render_markdown_format = "myst"  # a lesson's tables are Markdown
nb_ipywidgets_js = {}  # would be loaded from the network

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "none"  # the docstrings say type and unit where the signature does not
autodoc_member_order = "bysource"
default_role = "code"  # a single backtick in a docstring
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "mrharmony"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "mrharmony"},
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
