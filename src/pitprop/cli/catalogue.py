"""Verbs about pitprop itself: `list` and `explain`."""

from typing import Literal

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from pitprop.cli._app import Json, app
from pitprop.cli._say import escape, print_json, say


@app.command(name="list")
def list_(
    what: Literal["rules", "checks", "indicators", "remedies", "interventions", "cases"] = "rules",
    /,
    *,
    json: Json = False,
) -> int:
    """List everything of one kind.

    Args:
        what: The kind.
    """
    from pitprop.catalogue import entries

    found = entries(what)
    if json:
        print_json([{"name": e.name, "summary": e.summary, **e.facts} for e in found])
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("name", *found[0].facts, ""):
        table.add_column(column.replace("_", " "), no_wrap=column in ("name", "severity", "shelf"))
    for entry in found:
        table.add_row(f"[bold]{entry.name}[/bold]", *map(escape, entry.facts.values()), escape(entry.summary))
    Console().print(table)
    return 0


@app.command
def explain(name: str, /, *, json: Json = False) -> int:
    """Print the page of a rule, check, indicator, remedy, intervention or case.

    Args:
        name: Its name.
    """
    from pitprop.catalogue import find

    entry = find(name)
    if json:
        print_json(
            {"kind": entry.kind, "name": entry.name, "summary": entry.summary, "page": entry.page, **entry.facts}
        )
    else:
        say(f"[bold]{entry.name}[/bold] [dim]({entry.kind})[/dim]\n")
        Console().print(Markdown(entry.page))
    return 0
