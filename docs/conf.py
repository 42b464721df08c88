"""Configuration of the documentation."""

from importlib.metadata import version as installed_version

project = "sa_keyvault"
author = "The sa_keyvault authors"
release = installed_version("sa_keyvault")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
default_role = "code"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "sa_keyvault"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# the manuals of these are elsewhere, and are not looked up; names of the package itself must be found
nitpick_ignore_regex = [
    (r"py:.*", r"(sqlalchemy|cryptography|collections|concurrent|datetime|os)\..*"),
    (r"py:.*", r"(Engine|AsyncEngine|Connection|URL|tuple\[str)"),
]
