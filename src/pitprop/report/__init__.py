"""One plain `Report` value from a run folder, and its forms: text, JSON and HTML; trials as a notebook cell too."""

from pitprop.report.as_cell import to_cell
from pitprop.report.as_html import to_html, write
from pitprop.report.as_json import to_json
from pitprop.report.as_text import to_text
from pitprop.report.build import build
from pitprop.report.value import Report

__all__ = ["Report", "build", "to_cell", "to_html", "to_json", "to_text", "write"]
