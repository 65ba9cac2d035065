"""Where images come from, and what they are known by."""
