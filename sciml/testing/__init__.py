"""Contract tests that any method inherits: see `sciml.testing.contract`."""
