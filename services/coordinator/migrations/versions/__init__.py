"""One file a schema change, numbered without gaps."""
