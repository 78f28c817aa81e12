"""Tables that a notebook shows."""

from markupsafe import Markup, escape


class Table:
    """Rows of texts under a heading, shown as HTML in a notebook and as aligned text elsewhere.

    caption: lines below the table. links: where the first cell of each row leads to, in HTML; without them, nowhere.
    """

    def __init__(self, heading: list[str], rows: list[list[str]], caption: str = "", links: list[str] | None = None):
        self.heading, self.rows, self.caption, self.links = heading, rows, caption, links

    def __repr__(self):
        lines = [self.heading, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.heading))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*(line.rstrip() for line in text), *([self.caption] if self.caption else [])])

    def _repr_html_(self):
        def row(cells, tag, link=None):
            first = Markup("<a href='{}'>{}</a>").format(link, cells[0]) if link else escape(cells[0])
            cell = Markup(f"<{tag} style='text-align:left'>{{}}</{tag}>")
            return Markup("<tr>{}</tr>").format(Markup("").join(cell.format(text) for text in (first, *cells[1:])))

        links = self.links or [None] * len(self.rows)
        body = Markup("").join(row(cells, "td", link) for cells, link in zip(self.rows, links, strict=True))
        table = Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(row(self.heading, "th"), body)
        return str(table + Markup("").join(Markup("<p>{}</p>").format(line) for line in self.caption.splitlines()))
