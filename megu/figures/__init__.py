"""Tables to figures; knows tables only."""
