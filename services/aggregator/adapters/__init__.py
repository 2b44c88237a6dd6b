"""Where the aggregator's journal is kept: a database or memory."""
