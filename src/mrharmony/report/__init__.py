"""Pictures and pages that a person looks at."""

from mrharmony.report.contact_sheet import Panel, contact_sheet

__all__ = ["Panel", "contact_sheet"]
