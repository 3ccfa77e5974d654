"""The `replicator` command, as which `python -m replicator` is the same."""

from __future__ import annotations

import sys

from replicator.errors import Refused, exit_code
from replicator.extras import needed_for


def main() -> None:
    """Run the command line; the process ends here. Says which package is missing for it."""
    try:
        with needed_for("the command line", "cli"):
            from replicator.cli import main as program  # noqa: PLC0415 - in the extra `cli`
    except Refused as refused:
        sys.stderr.write(f"error[{refused.code}]: {refused.message}\n")
        sys.exit(exit_code(refused))
    program.main()


if __name__ == "__main__":
    main()
