"""What a run costs: seconds and memory, counted and measured."""
