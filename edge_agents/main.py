"""Entry point of `tinyfleet-agent`: settings, logs, the agent, exit codes.

0 after a clean stop, 1 for a fault of ours, 2 for settings that cannot work, 3 when the coordinator
was not reached for `--give-up-s`, 4 when another process attends under the same name.
"""

from __future__ import annotations

import logging
import os
import sys

from edge_agents.footprint import share_one_heap, trim_imports
from tinyfleet.grpc_engine import choose_engine

EXIT_INTERNAL = 1
EXIT_INVALID = 2
EXIT_UNREACHABLE = 3
EXIT_SUPERSEDED = 4


def main() -> None:
    """Run the agent; exits with a status code."""
    trim_imports()
    choose_engine()
    share_one_heap()
    import asyncio

    from edge_agents.settings import load_agent_settings
    from tinyfleet.config import Sources
    from tinyfleet.errors import TinyFleetError
    from tinyfleet.logs import configure_logs

    try:
        settings = load_agent_settings(Sources(sys.argv[1:], os.environ))
        configure_logs(settings.log_level, settings.log_format)
        from edge_agents.agent import run_agent
        from edge_agents.membership import NameMember

        for handler in logging.getLogger().handlers:
            handler.addFilter(NameMember())
        asyncio.run(run_agent(settings))
    except KeyboardInterrupt:
        sys.exit(130)
    except TinyFleetError as error:
        print(f"tinyfleet-agent: {error}", file=sys.stderr)  # noqa: T201 - there may be no logs yet
        sys.exit(_status_of(error))
    except Exception:
        logging.getLogger("agent").exception("unexpected error, stopping")
        sys.exit(EXIT_INTERNAL)


def _status_of(error: Exception) -> int:
    from edge_agents.session import GaveUp, Superseded

    if isinstance(error, Superseded):
        return EXIT_SUPERSEDED
    return EXIT_UNREACHABLE if isinstance(error, GaveUp) else EXIT_INVALID
