"""Panels of horizontal bars with whiskers, as SVG text. The card brings its own background, light or dark."""

import collections
from html import escape

# `reference`: a line across the panel, such as 1 for ratios. `most`: the end of the scale; None: the largest value.
# `form` writes a value.
Panel = collections.namedtuple("Panel", "title bars form reference most")
Bar = collections.namedtuple("Bar", "label kind spread")

WIDTH, COLUMNS, MARGIN, GAP = 920, 2, 28, 36
BAR, STEP, HEAD, LABEL, VALUE = 15, 23, 30, 82, 62

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
  .title { font-size: 18px; font-weight: 600; } .panel { font-weight: 600; } .note { fill: #59636e; font-size: 12px; }
  .card { fill: #ffffff; stroke: #d1d9e0; } .rule { stroke: #8c959f; stroke-dasharray: 3 3; } .track { fill: #f2f4f7; }
  .whisker { stroke: #24292f; stroke-width: 1.4; fill: none; }
  .towpath { fill: #0a7d6c; } .nginx { fill: #4f9d3a; } .haproxy { fill: #3f7fd1; } .envoy { fill: #b052b5; } .pingora { fill: #d9822b; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .note { fill: #9198a1; } .card { fill: #0d1117; stroke: #3d444d; } .track { fill: #161b22; }
    .whisker { stroke: #e6edf3; } .towpath { fill: #2fc7ae; } .haproxy { fill: #5b9bf0; } .envoy { fill: #c77dcb; }
  }"""


def card(title, note, panels):
    """A whole SVG file: two columns of panels under a title."""
    body, top = [], 74
    for first in range(0, len(panels), COLUMNS):
        line = panels[first:first + COLUMNS]
        for column, panel in enumerate(line):
            body += drawn(panel, MARGIN + column * (column_width() + GAP), top)
        top += max(HEAD + STEP * len(panel.bars) for panel in line) + 20
    height = top + 4
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>", f"<style>{STYLE}\n</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            text(MARGIN, 34, title, "title"), text(MARGIN, 55, note, "note")]
    return "\n".join([*head, *body, "</svg>", ""])


def column_width():
    return (WIDTH - 2 * MARGIN - GAP * (COLUMNS - 1)) / COLUMNS


def drawn(panel, left, top):
    """The panel's heading, its bars on one scale from zero, and the line of reference."""
    room = column_width() - LABEL - VALUE
    most = panel.most or max(bar.spread.highest for bar in panel.bars)
    scale = room / most if most else 0
    start = left + LABEL
    lines = [text(left, top + 14, panel.title, "panel")]
    for number, bar in enumerate(panel.bars):
        lines += one_bar(bar, left, start, top + HEAD + number * STEP, scale, room, panel.form)
    if panel.reference is not None:
        x = start + panel.reference * scale
        bottom = top + HEAD + len(panel.bars) * STEP - (STEP - BAR) + 3
        lines.append(f'<line class="rule" x1="{x:.1f}" y1="{top + HEAD - 4}" x2="{x:.1f}" y2="{bottom}"/>')
    return lines


def one_bar(bar, left, start, y, scale, room, form):
    middle = y + BAR / 2
    value, low, high = bar.spread.median * scale, bar.spread.lowest * scale, bar.spread.highest * scale
    lines = [text(left, y + 12, NAMES.get(bar.label, bar.label)),
             f'<rect class="track" x="{start}" y="{y}" width="{room:.1f}" height="{BAR}" rx="2"/>',
             f'<rect class="{bar.kind}" x="{start}" y="{y}" width="{max(value, 1):.1f}" height="{BAR}" rx="2"/>',
             text(start + room + 8, y + 12, form.format(bar.spread.median))]
    if high - low >= 1:
        lines.append(f'<path class="whisker" d="M{start + low:.1f} {middle}H{start + high:.1f}'
                     f'M{start + low:.1f} {middle - 4}v8M{start + high:.1f} {middle - 4}v8"/>')
    return lines


NAMES = {"haproxy": "HAProxy", "envoy": "Envoy"}


def text(x, y, content, kind=None):
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{attribute}>{escape(str(content))}</text>'
