"""Comparisons as one cell of a notebook: a table with the intervals drawn, in both themes, without script."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from pitprop.records import Comparison
from pitprop.report import svg
from pitprop.report.headline import mean
from pitprop.report.value import Guard
from pitprop.report.wording import effect_words, percent, show, span, verdict_words

ROUNDS = {
    "screen": "Screen round",
    "confirm": "Confirm round",
    "single": "Arms against the control",
    "factors": "Main effects and interactions",
}
"""Round, as `trial.json` names it -> its heading."""

# Everything is under one class, for a cell shares its page; currentColor follows the notebook's theme.
STYLE = """
.pitprop { font-size: 13px; font-variant-numeric: tabular-nums; }
.pitprop table { border-collapse: collapse; margin: .6em 0; }
.pitprop caption { text-align: left; opacity: .75; padding: .2em 0; }
.pitprop th, .pitprop td { text-align: left; padding: 2px 12px 2px 0; background: none; }
.pitprop .n { text-align: right; white-space: nowrap; }
.pitprop small { display: block; opacity: .7; font-weight: 400; }
.pitprop p { max-width: 90ch; margin: .3em 0; }
.pitprop .forest { --mark: currentColor; overflow: visible; }
.pitprop .better { --mark: #2b7fc9; color: #2b7fc9; }
.pitprop .worse { --mark: #d1552b; color: #d1552b; }
.pitprop .forest .band { fill: gray; opacity: .25; }
.pitprop .forest .zero, .pitprop .axis .tick { stroke: gray; }
.pitprop .axis text { fill: gray; font-size: 11px; }
.pitprop .forest .seed { fill: var(--mark); opacity: .5; }
.pitprop .forest .interval { stroke: var(--mark); stroke-width: 2; }
.pitprop .forest .point { fill: var(--mark); }
"""


def to_cell(
    statement: str,
    rounds: Mapping[str, Sequence[Comparison]],
    remarks: Sequence[str] = (),
    guards: Sequence[Guard] = (),
) -> str:
    """HTML of a trial for a notebook.

    Args:
        statement: What was found, in words.
        rounds: Comparisons of one metric by round; each round is a table on its own scale.
        remarks: Lines below.
        guards: Effects on the metrics that don't decide.
    """
    tables = Markup("").join(_table(name, comparisons) for name, comparisons in rounds.items() if comparisons)
    below = Markup("").join(Markup("<p><small>{}</small></p>").format(line) for line in remarks)
    return str(
        Markup('<div class="pitprop"><style>{}</style><p>{}</p>{}{}</div>').format(
            Markup(STYLE), statement, tables + _guards(guards), below
        )
    )


def _table(name: str, comparisons: Sequence[Comparison]) -> Markup:
    first, scale = comparisons[0], svg.effect_scale(comparisons)
    better = "higher is better" if first.higher_is_better else "lower is better"
    rows = Markup("").join(_row(c, scale) for c in comparisons)
    return Markup(
        "<table><caption><b>{}</b> · {}, {}, margin {}</caption>"
        '<thead><tr><th>arm</th><th class="n">seeds</th><th class="n">control → treated</th><th class="n">effect</th>'
        "<th></th><th>verdict</th></tr></thead><tbody>{}"
        '<tr><td colspan="4"></td><td>{}</td><td></td></tr></tbody></table>'
    ).format(ROUNDS.get(name, name), first.metric, better, show(first.margin), rows, svg.axis(scale))


def _guards(guards: Sequence[Guard]) -> Markup:
    rows = Markup("").join(
        Markup(
            '<tr><th>{}</th><td>{}</td><td class="n">{} → {}</td><td class="n">{} {}<small>at {}</small></td>'
            "<td>{}</td></tr>"
        ).format(
            g.arm,
            g.metric,
            show(mean(g.control)),
            show(mean(g.treated)),
            show(g.effect, sign=True),
            span(g.low, g.high),
            percent(g.confidence),
            g.verdict,
        )
        for g in guards
    )
    table = Markup("<table><caption><b>Beside it</b></caption><tbody>{}</tbody></table>").format(rows)
    return table if guards else Markup("")


def _row(c: Comparison, scale: svg.Scale) -> Markup:
    changes = Markup("<small>{}</small>").format(c.changes) if c.changes != c.arm else escape("")
    return Markup(
        '<tr><th>{}{}</th><td class="n">{}</td><td class="n">{} → {}</td>'
        '<td class="n">{}<small>at {}</small></td><td>{}</td>'
        '<td class="{}">{}<small>p = {}</small></td></tr>'
    ).format(
        c.arm,
        changes,
        len(c.seeds),
        show(mean(c.control)),
        show(mean(c.treated)),
        effect_words(c),
        percent(c.confidence),
        svg.interval(c, scale),
        c.verdict.split()[0],
        verdict_words(c),
        show(c.p_value),
    )
