"""Backups of a site: its services' databases in one file, taken while they work."""
