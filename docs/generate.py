"""Write the reference pages from the files' own docstrings, and the front page from the README.

python docs/generate.py           write them
python docs/generate.py --check   fail when a page on disk differs
"""

from pathlib import Path

from pitprop.catalogue import KINDS, Entry, entries

HERE = Path(__file__).parent
INTRODUCTION = {
    "rules": "A rule watches one failure mode over time. `pitprop explain NAME` prints its page; "
    "[score cards](../score_cards.md) say how often each is wrong.",
    "checks": "A check asks one question of a model before training.",
    "indicators": "An indicator is a pure measure: array in, number out, for numpy, torch and jax alike.",
    "remedies": "A remedy is one file that can be copied away alone; the file's head is its page.",
    "interventions": "An intervention is a change that a trial makes to a fork, never to your run.",
}

LINKS = {
    "docs/design/": "design/001-contracts.md",
    "docs/": "",
    "src/pitprop/cases/model_merging/README.md": "reference/model_merging.md",
    "src/pitprop/cases/timestep_attack/README.md": "reference/timestep_attack.md",
    "src/pitprop/cases/clip_anomaly/README.md": "reference/clip_anomaly.md",
    "src/pitprop/cases/grid_solver/README.md": "reference/grid_solver.md",
    "src/pitprop/cases/set_diffusion/README.md": "reference/set_diffusion.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Beginnings of the README's links, and where they lead on the site."""


def reference(kind: str, found: list[Entry]) -> str:
    """One page: a table of all entries, then each in full."""
    columns = list(found[0].facts)
    lines = [f"# {kind.capitalize()}", "", INTRODUCTION[kind], ""]
    heads = ["name", *(column.replace("_", " ") for column in columns), ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * (len(columns) + 2)]
    for entry in found:
        cells = [f"[`{entry.name}`](#{entry.name.lower()})", *(entry.facts[c] for c in columns), entry.summary]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for entry in found:
        lines += ["", f'<a id="{entry.name.lower()}"></a>', "", f"## {entry.name}", "", demote(entry.page)]
    return "\n".join(lines).rstrip() + "\n"


def demote(page: str) -> str:
    """Headings of a page, two levels down, so that they stand below the entry's own."""
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in page.splitlines())


def front_page() -> str:
    """The README with its links as the site has them."""
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    for link, page in LINKS.items():
        text = text.replace(f"({link}", f"({page}")
    return text


def pages() -> dict[Path, str]:
    """Every generated page, by path."""
    made = {HERE / "index.md": front_page()}
    made |= {HERE / "reference" / f"{kind}.md": reference(kind, entries(kind)) for kind in KINDS if kind != "cases"}
    made[HERE / "contributing.md"] = (
        (HERE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("(docs/", "(")
    )
    made |= {HERE / "reference" / f"{case.name}.md": case.page for case in entries("cases")}
    return made


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
