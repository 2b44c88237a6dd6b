"""Live models: what an agent has adapted to its own samples, and answers with."""
