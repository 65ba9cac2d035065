"""Settings, their profiles and names; errors for people; files that appear whole."""
