"""Solutions in space and time as data: drawn and solved, or read from files."""
