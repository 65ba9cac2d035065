"""Docstrings as the project writes them, read as Markdown: their sections become lists."""

import re

from myst_parser.parsers.sphinx_ import MystParser

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Source|Departs|Yields):[ \n]*", re.M)
ENTRY = re.compile(r"(?:^ +|(?<=\.)  )(?=[\w`*]+(?:, [\w`*]+)*: )", re.M)  # "name: what it is", one or more in a line


def as_markdown(text: str) -> str:
    r"""A paragraph for each section, an item for each entry of Args and Attributes."""
    out, *parts = SECTION.split(text)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in ("Args", "Attributes"):
            entries = ENTRY.sub("\n- ", f"    {body.strip()}").strip()
            out += f"\n\n**{name}**\n\n" + re.sub(r"\n +(?!- )", " ", entries) + "\n"
        else:
            out += f"\n\n**{name}** {' '.join(body.split())}\n"
    return out


class Parser(MystParser):
    """The parser that `autodoc2_docstring_parser_regexes` names by its module."""

    def parse(self, inputstring, document):
        """Parse a docstring."""
        super().parse(as_markdown(inputstring), document)
