"""Floor 1: what was said, by whom, and how."""
