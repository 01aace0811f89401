"""How Sphinx builds the documentation: `make docs`. Warnings are errors, and nothing is fetched from the network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
for _name in ("HYPED_BLOCK_PLUGINS", "HYPED_PLUGIN_FOLDERS"):
    os.environ.pop(_name, None)  # the command line is documented as HYPED brings it

import hyped_core  # noqa: E402  after the path above

project = "HYPED"
author = "The HYPED developers"
project_copyright = author
version = release = hyped_core.__version__
language = "en"
smartquotes = False  # --out is no dash

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "repository_pages",
    "command_pages",
    "reference_pages",
]
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints"]
root_doc = "index"

# Markdown as the pages are written for GitHub: anchors of headings, tables, fenced code without a language is text.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
highlight_language = "text"
nb_execution_mode = "off"  # the notebook is run by a test, in an environment without HYPED; its outputs are stored

# The repository's address, for links to files that are no pages of the site; without one the path is written out.
repository_base = os.environ.get("HYPED_REPOSITORY_URL", "").rstrip("/")

# Docstrings: numpy's sections, names in single backticks. Types are those of the signatures.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r".*"),  # a name in single backticks is a link where the site has it, else only code
    ("py:(class|data)", r".*"),  # types in signatures: of other libraries, or of modules that the reference leaves out
]
suppress_warnings = ["ref.python"]  # a short name that two modules have
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = "HYPED"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_persistent": [],  # the search stands in the sidebar
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "home_page_in_toc": False,
    "navigation_with_keys": False,
    "show_toc_level": 2,
}
