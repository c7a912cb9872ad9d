"""Settings of the site; ``./reproduce.sh site`` (docs/build.py) builds it, offline, from the committed notebooks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "campanion"
author = copyright = "the authors of campanion"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["mathml", "alternatives", "board", "cards", "docstrings", "elsewhere"]  # of docs/_ext
highlight_language = "none"

# Notebooks are shown as they are committed; a static image goes before the widget that it stands for.
nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "campanion"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["scoreboard.js"]
html_domain_indices = False
html_show_sphinx = False
html_copy_source = False
html_last_updated_fmt = None
