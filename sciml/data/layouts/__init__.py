"""Arrays of files as fields: which axis is what, windows in time, files read as others were."""
