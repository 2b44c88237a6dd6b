"""The coordinator: runs, agents and who does what."""
