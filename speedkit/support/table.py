"""Tables that a notebook shows."""

import html


class Table:
    """Rows of texts under a heading, shown as HTML in a notebook and as aligned text elsewhere.

    links: where the first cell of each row leads to, in HTML; without them, nowhere.
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
            texts = [html.escape(cell) for cell in cells]
            if link:
                texts[0] = f"<a href='{html.escape(link)}'>{texts[0]}</a>"
            return "<tr>" + "".join(f"<{tag} style='text-align:left'>{text}</{tag}>" for text in texts) + "</tr>"

        links = self.links or [None] * len(self.rows)
        body = "".join(row(cells, "td", link) for cells, link in zip(self.rows, links, strict=True))
        caption = f"<p>{html.escape(self.caption)}</p>" if self.caption else ""
        return f"<table><thead>{row(self.heading, 'th')}</thead><tbody>{body}</tbody></table>{caption}"
