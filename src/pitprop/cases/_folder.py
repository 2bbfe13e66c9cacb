"""Where the cases keep what they make once: trained parts, compiled programs. Imports no framework."""

import os
from pathlib import Path

import platformdirs

FOLDER = "PITPROP_CACHE"
"""Environment variable that names another folder."""


def folder() -> Path:
    """`$PITPROP_CACHE`, else the user's cache folder."""
    return Path(os.environ.get(FOLDER) or platformdirs.user_cache_path("pitprop"))
