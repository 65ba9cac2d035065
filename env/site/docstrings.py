"""Docstrings as the project writes them, read as Markdown: their sections become lists, their examples code."""

import re

from myst_parser.parsers.sphinx_ import MystParser

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Source|Departs|Yields):[ \n]*", re.M)
ENTRY = re.compile(r"(?:^ +|(?<=\.)  )(?=[\w`*]+(?:, [\w`*]+)*: )", re.M)  # "name: what it is", one or more in a line
EXAMPLE = re.compile(r"^(>>> .*(?:\n.*\S.*)*)", re.M)
FORMULA = re.compile(r"`+[^`]*`+|\$[^$`]+\$")  # or code, where a dollar is none


def as_markdown(text: str) -> str:
    r"""A paragraph for each section, an item for each entry of Args and Attributes, a code block for each example."""
    prose = EXAMPLE.split(text)
    prose[1::2] = (f"\n\n```pycon\n{example}\n```\n\n" for example in prose[1::2])
    prose[::2] = map(sections, prose[::2])
    return "".join(prose)


def sections(text: str) -> str:
    r"""A docstring or a part of it without examples."""
    # A formula stands in one line: one of its lines may begin with a plus, as an item of a list does.
    text = FORMULA.sub(lambda match: " ".join(match[0].split()) if match[0][0] == "$" else match[0], text)
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
