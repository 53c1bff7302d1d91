"""What the user typed, checked before a run is composed."""
