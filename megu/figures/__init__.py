"""Tables to figures and Markdown; knows tables only."""
