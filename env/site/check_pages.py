"""What a reader of the built site would see as broken: `python env/site/check_pages.py site/html`."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

TEX = re.compile(r"(?<!\w)\$\S|\\[()\[\]]|\\[a-zA-Z]{2,}")  # a delimiter or a command of TeX
TABLE = re.compile(r"^\|.*\|$", re.M)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """Its links, the places that links can lead to, its formulas and tables that stand there as text."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.links, self.anchors, self.raw = [], set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note links and anchors."""
        given = dict(attrs)
        self.links |= {given[name] for name in ("href", "src") if given.get(name)}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag not in VOID:
            words = (given.get("class") or "").split()
            self.open.append((tag, tag in ("script", "style", "code", "pre") or "math" in words))

    def handle_endtag(self, tag):
        """Leave the element, and those in it that have no end."""
        if tag in (names := [name for name, _ in self.open]):
            del self.open[len(names) - 1 - names[::-1].index(tag) :]

    def handle_data(self, data):
        """Note what should not be text."""
        if not any(code for _, code in self.open):
            self.raw += [f"{line.strip()[:80]!r} is text" for line in data.splitlines() if TEX.search(line)]
            self.raw += [f"{row[:80]!r} is no table" for row in TABLE.findall(data)]


def problems(root: Path) -> list[str]:
    """Dead links, raw formulas and raw tables of all pages below a folder."""
    pages = {path: Page(path.read_text()) for path in sorted(root.resolve().rglob("*.html"))}

    def dead(path, link):
        url = urlsplit(link)
        if url.scheme or url.netloc:
            return False
        target = (path.parent / unquote(url.path)).resolve() if url.path else path
        anchor = unquote(url.fragment)
        return not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors)

    return [
        f"{path.relative_to(root.resolve())}: {what}"
        for path, page in pages.items()
        for what in [*page.raw, *(f"{link} leads nowhere" for link in sorted(page.links) if dead(path, link))]
    ]


if __name__ == "__main__":
    sys.exit("\n".join(problems(Path(sys.argv[1]))) or 0)
