"""Verbs about pitprop itself: `list` and `explain`."""

from typing import Literal

from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding

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
    from pitprop.rules._card import short

    found = entries(what)
    if json:
        print_json([{"name": e.name, "summary": e.summary, **e.facts} for e in found])
        return 0
    console = Console(highlight=False)
    for entry in found:
        facts = entry.facts | ({"score_card": short(entry.name)} if what == "rules" else {})
        console.print(f"[bold]{entry.name}[/bold]  [dim]{escape('  '.join(facts.values()))}[/dim]")
        console.print(Padding(escape(entry.summary), (0, 0, 0, 2)))
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
        Console().print(Markdown(_fenced(entry.page)))
    return 0


def _fenced(page: str) -> str:
    """`page` with its doctests as code: Markdown takes `>>>` for three quotations."""
    lines: list[str] = []
    fenced = inside = False
    for line in page.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if not fenced and not inside and line.lstrip().startswith(">>>"):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join([*lines, "```"] if inside else lines)
