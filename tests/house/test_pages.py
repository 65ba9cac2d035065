"""What stands beside the code: links lead somewhere, one version has one number."""

import json
import re
import tomllib

import pytest
import yaml
from conftest import ROOT

PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "megu").rglob("*.md"),
    *(ROOT / "paper_figures").glob("*.md"),
    ROOT / "env/README.md",
]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")


def broken(page, text):
    """Links of a page to files or headings that are not there."""
    out = []
    for file, anchor in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.S)):
        target = page.parent / file if file else page
        titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if anchor and target.is_file() else []
        anchors = {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
        if not target.exists() or (anchor and anchor not in anchors):
            out.append(f"{file}#{anchor}" if anchor else file)
    return out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert broken(page, page.read_text()) == []


def test_a_broken_link_is_noticed():
    page = ROOT / "README.md"
    text = "[a](megu) [b](megu/no.md) [c](paper_figures/README.md#no-such-heading) [d](#limits) [e](https://x.org/y)"
    assert broken(page, text) == ["megu/no.md", "paper_figures/README.md#no-such-heading"]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_one_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = [json.loads((ROOT / name).read_text())["version"] for name in ("codemeta.json", ".zenodo.json")]
    assert {version, *found, yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]} == {version}
