"""Tables that a notebook shows."""

import re

from markupsafe import Markup

from speedkit.support.messages import _
from speedkit.support.output import printable

SHORT = 20  # characters: a column of cells up to this length is not broken into lines
NUMBER = re.compile(r"[×+-]?\s?\d\S*(\s\S{1,12}){0,3}")  # "12.3 ms", "2 min 5 s", "× 0.512", "87.5%", "2 of 3"


class Table:
    """Rows of texts under a heading, shown as HTML in a notebook and as aligned text elsewhere.

    Columns of numbers are right-aligned; all others, and always the first, are left-aligned.

    links: a link for the first cell of each row; default: none. warning: what to read before the figures.
    """

    def __init__(
        self,
        heading: list[str],
        rows: list[list[str]],
        caption: str = "",
        links: list[str] | None = None,
        warning: str = "",
    ):
        self.heading, self.rows, self.caption, self.links, self.warning = heading, rows, caption, links, warning

    def _numeric(self) -> list[bool]:
        """Which columns hold numbers, apart from cells that are empty or not available."""
        columns = [{row[i] for row in self.rows} - {"", _("n/a")} for i in range(len(self.heading))]
        return [i > 0 and bool(cells) and all(map(NUMBER.fullmatch, cells)) for i, cells in enumerate(columns)]

    def __repr__(self):
        lines = [self.heading, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.heading))]
        columns = [*zip(self._numeric(), widths, strict=True)]

        def row(cells):
            texts = zip(cells, columns, strict=True)
            return "  ".join(text.rjust(width) if number else text.ljust(width) for text, (number, width) in texts)

        before, after = ([text] if text else [] for text in (self.warning, self.caption))
        return printable("\n".join([*before, *(row(line).rstrip() for line in lines), *after]))

    def _repr_html_(self):
        styles = [f"text-align:{'right' if number else 'left'}" for number in self._numeric()]
        for i, style in enumerate(styles):
            if all(len(row[i]) <= SHORT for row in self.rows):
                styles[i] = f"{style};white-space:nowrap"

        def row(cells, tag, link=None):
            first, *others = cells
            first = Markup("<a href='{}'>{}</a>").format(link, first) if link else first
            cell = Markup(f"<{tag} style='{{}}'>{{}}</{tag}>")
            texts = [cell.format(style, text) for style, text in zip(styles, [first, *others], strict=True)]
            return Markup("<tr>{}</tr>").format(Markup("").join(texts))

        links = self.links or [None] * len(self.rows)
        body = Markup("").join(row(cells, "td", link) for cells, link in zip(self.rows, links, strict=True))
        table = Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(row(self.heading, "th"), body)
        before, after = (Markup("<p>{}</p>").format(text) if text else "" for text in (self.warning, self.caption))
        return before + table + after
