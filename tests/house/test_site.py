"""What the site is made of reads as Markdown: formulas and tables are such, no line is a comment by chance."""

import ast
import inspect
import re
import runpy
import sys

import nbformat
import pytest
from conftest import ROOT
from markdown_it.renderer import RendererHTML
from shared import tracked
from test_pages import PAGES, broken

pytest.importorskip("myst_nb", reason="needs the extra `site`")
sys.path.insert(0, str(ROOT / "env" / "site"))

import check_pages
from docstrings import as_markdown
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FORMULA = """Weights.

    Args: a: b.  c: $d
        + e$, f.

    >>> "| a |"
    '| a |'
    """


def raw(text):
    """Formulas and tables of a Markdown text that a reader sees as text, as MyST reads it."""
    parser = create_md_parser(MdParserConfig(enable_extensions={"dollarmath"}), RendererHTML)
    return check_pages.Page(parser.render(text)).raw


def shown(path):
    """The Markdown of a notebook: cells and outputs."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            yield cell.source
        yield from (
            output.data["text/markdown"]
            for output in cell.get("outputs", ())
            if "text/markdown" in output.get("data", ())
        )


@pytest.mark.parametrize(
    "path", [*PAGES, *(ROOT / "paper_figures/out").glob("*.md")], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_a_page_has_no_raw_formula_no_line_read_as_a_comment(path):
    assert raw(path.read_text()) == [] == comments(path.read_text())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_raw_formula_no_comment_no_dead_link(path):
    found = [problem for text in shown(path) for problem in [*raw(text), *comments(text), *broken(path, text)]]
    assert found == []


def comments(text):
    """Lines that MyST takes for comments."""
    return re.findall(r"^\s*%.*", re.sub(r"```.*?```", "", text, flags=re.S), re.M)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "megu").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_docstrings_have_no_raw_formula(path):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    assert [found for node in nodes for found in raw(as_markdown(ast.get_docstring(node) or ""))] == []


def test_a_formula_is_one_line_and_an_example_is_code():
    text = inspect.cleandoc(FORMULA)
    assert "c: $d + e$, f." in as_markdown(text) and "```pycon\n>>> \"| a |\"\n'| a |'\n```" in as_markdown(text)
    assert as_markdown("``$A``\n\n+ b\n\n``$C``") == "``$A``\n\n+ b\n\n``$C``"


def test_what_is_raw_is_noticed():
    assert raw("$R = T(f$ and $)$, `$HOME`, 5 $") == [] == raw("| a |\n|---|\n| $x$ |")
    assert len(raw("$a\n+ b$")) == 1 and len(raw(r"so \frac is text")) == 1 and len(raw("<p>\n| a |\n</p>")) == 1


def test_a_generated_line_begins_with_no_mark():
    for mark in ("%", "% , b", "+ 1", "- 1", "3. b", "## b"):
        for start in range(90, 125):
            said = tracked.bullets(f"{'a' * start} 5 {mark} {'b ' * 9}")
            assert not re.search(r"^  (%|[-+] |3\. |## )", said, re.M), said
            assert said.split() == f"- {'a' * start} 5 {mark} {'b ' * 9}".split()


def test_broken_pages_are_noticed(tmp_path, monkeypatch):
    (tmp_path / "b.html").write_text("<h1 id='x'>b</h1>")
    (tmp_path / "a.html").write_text(
        "<a href='b.html#x'>1</a><a href='b.html#y'>2</a><a href='c.html'>3</a><a href='https://x.org/c.html'>4</a>"
        r"<p>\frac</p><span class='math'>\(\frac\)</span><pre>| a |</pre><p>| a |</p>"
    )
    found = [problem.removeprefix("a.html: ") for problem in check_pages.problems(tmp_path)]
    assert found == [r"'\\frac' is text", "'| a |' is no table", "b.html#y leads nowhere", "c.html leads nowhere"]

    def ends(folder):
        monkeypatch.setattr(sys, "argv", ["check_pages.py", str(folder)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(check_pages.__file__, run_name="__main__")
        return caught.value.code

    assert "a.html: c.html leads nowhere" in ends(tmp_path)
    (tmp_path / "a.html").unlink()
    assert ends(tmp_path) == 0
