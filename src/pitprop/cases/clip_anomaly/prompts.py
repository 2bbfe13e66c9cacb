"""The prompts of AA-CLIP: 6 for a normal object and 10 for a damaged one, as in its source."""

NORMAL = ("{}", "a {}", "the {}")
ABNORMAL = ("a damaged {}", "a broken {}", "a {} with flaw", "a {} with defect", "a {} with damage")
TEMPLATES = ("{}.", "a photo of {}.")
WORDS = ("a", "the", "photo", "of", "damaged", "broken", "with", "flaw", "defect", "damage", ".")
"""Every word of the prompts, without the classes' names."""


def prompts(class_name: str) -> tuple[list[str], list[str]]:
    """The normal and the abnormal prompts of a class."""
    normal, abnormal = (
        [template.format(state.format(class_name)) for state in states for template in TEMPLATES]
        for states in (NORMAL, ABNORMAL)
    )
    return normal, abnormal
