"""The site: README, notebooks as committed, tables, and the API from its docstrings; nothing is executed."""

import re
import sys
from pathlib import Path

from docutils import nodes

sys.path.insert(0, str(Path(__file__).parent))

project, author, copyright = "megu", "The megu authors", "The megu authors, MIT licence"
extensions = ["myst_nb", "autodoc2", "sphinx_copybutton", "sphinx.ext.mathjax", "sphinx-mathjax-offline"]
root_doc = "README"
include_patterns = [
    "README.md", "REPRODUCIBILITY.md", "CHANGELOG.md", "env/README.md", "notebooks/*.ipynb", "megu/*/README.md",
    "megu/guide/assets/*.md", "paper_figures/README.md", "paper_figures/out/*.md", "site/api/**",
]  # fmt: skip
exclude_patterns = [".*", "runs", "site/html"]

html_theme, html_title = "furo", "megu"
html_static_path, html_css_files = ["static"], ["site.css"]
html_extra_path = ["index.html"]
html_show_sphinx, html_copy_source, html_show_search_summary = False, False, False
smartquotes = False  # --out is an option

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # outputs have tables, formulas and links to pages, as Markdown cells have
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_links_external_new_tab = True

autodoc2_packages = [{"path": "megu", "auto_mode": True}]
autodoc2_output_dir = "site/api"
autodoc2_render_plugin = "myst"
autodoc2_docstring_parser_regexes = [(".*", "docstrings")]
autodoc2_hidden_objects = ["private", "dunder", "inherited", "undoc"]
autodoc2_module_all_regexes = []
autodoc2_index_template = None
autodoc2_class_docstring = "both"  # else an inherited constructor's text is appended
suppress_warnings = ["autodoc2.dup_item"]  # a name that its module assigns twice

NAVIGATION = """
```{toctree}
:hidden:
:caption: The walk
:glob:
notebooks/0*
```
```{toctree}
:hidden:
:caption: Appendix
:glob:
notebooks/A*
```
```{toctree}
:hidden:
:caption: Figures and tables
:glob:
paper_figures/README
paper_figures/out/*
```
```{toctree}
:hidden:
:caption: Rooms
:glob:
megu/*/README
megu/guide/assets/tiny_mllm
site/api/megu/megu
```
```{toctree}
:hidden:
:caption: About
env/README
REPRODUCIBILITY
CHANGELOG
```
"""
TITLES = {  # of tables that other pages show without one
    "table1_results": "The default request",
    "comparison_table": "Every method",
    "ablation_table": "One thing at a time",
    "ablation_cifar100_table": "One thing at a time, CIFAR-100",
    "disentanglement_table": "Patterns",
    "grid_tow_small": "CIFAR cells",
    "figure4_time_of_cells_small": "Time of the CIFAR cells",
}


def setup(app):
    """Adds what other places of the documents do without: contents, titles of tables, words for figures, breaks."""

    def read(app, name, content):
        if name == root_doc:
            content[0] += NAVIGATION
        if title := TITLES.get(Path(name).name):
            content[0] = f"# {title}\n\n{content[0]}"

    def describe(app, doctree):
        for image in doctree.findall(nodes.image):
            if "alt" not in image:  # a figure of a notebook; its file is named by a hash
                image["alt"] = f"Figure: {title_above(image)}"

    def lay_out(app, doctree):
        for text in list(doctree.findall(nodes.Text)):
            if not isinstance(text.parent, (nodes.FixedTextElement, nodes.literal, nodes.math, nodes.raw)):
                if (kept := re.sub(r"± |(?<=\d) (?=%)", lambda at: at[0].replace(" ", "\u00a0"), text)) != text:
                    text.parent.replace(text, nodes.Text(kept))
        for cell in doctree.findall(nodes.entry):
            cell["classes"] += [kind for kind, least in (("prose", 30), ("long", 150)) if len(cell.astext()) > least]
        for printed in doctree.findall(nodes.literal_block):
            rows = [line for line in printed.astext().splitlines() if len(re.split(r"(?<=\S) {2,}(?=\S)", line)) > 2]
            printed["classes"] += ["columns"] if "output" in printed["classes"] and len(rows) > 1 else []

    app.connect("source-read", read)
    app.connect("doctree-read", describe)
    app.connect("doctree-read", lay_out)


def title_above(node):
    """Title of the section that a node stands in."""
    while node.parent and not isinstance(node, nodes.section):
        node = node.parent
    return node.next_node(nodes.title).astext()
