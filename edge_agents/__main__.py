"""`python -m edge_agents` is `tinyfleet-agent`."""

from edge_agents.main import main

main()
