"""A run and its store, studies over many runs, and how they are carried out."""
