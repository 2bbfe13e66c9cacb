"""`python -m pitprop`, and what the `pitprop` script calls.

Spawned workers import the main script again; this one costs them nothing, whereas the command line takes 0.6 s.
"""

import sys


def main() -> int:
    """Run the command line."""
    from pitprop.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
