"""From a native scan to the canonical brain, and exactly back."""
