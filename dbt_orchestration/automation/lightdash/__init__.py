"""Lightdash is told what was built: its fields are refreshed, its results cache is emptied."""
