"""A classifier and images of the user's own: request, verdict, report."""
