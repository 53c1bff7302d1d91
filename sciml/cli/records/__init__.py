"""Run folders: whose they are, how a run ends, and how it is continued."""
