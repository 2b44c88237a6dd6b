"""Where samples are kept: in memory or in a database, under one contract."""
