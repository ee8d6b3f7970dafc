"""Rows of text as a table."""


def aligned(rows, *, text_columns=1):
    """Returns the rows as lines of columns that are two spaces apart.

    Args:
        rows: Sequences of strings, all of one length; the first is the header.
        text_columns: How many columns, from the left, are text and start
            below each other; the others are numbers and end so.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)
