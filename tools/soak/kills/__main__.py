"""The command: kill the operations that are named, or all; exit with 1 if anything was wrong."""

import argparse
import sys
import tempfile
from pathlib import Path

from tools.soak.kills.operations import OPERATIONS
from tools.soak.kills.runs import kill_everywhere, tear_everywhere


def main() -> None:
    """Kill the operations that are named, and report."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak.kills")
    parser.add_argument("operations", nargs="*", default=[*OPERATIONS])
    parser.add_argument("--every", type=int, default=1, help="only before every so many steps")
    parser.add_argument("--brief", action="store_true", help="not where nothing has changed")
    parser.add_argument("--torn", action="store_true", help="cut the write-ahead log instead")
    options = parser.parse_args()
    points = 0
    failures: list[str] = []
    for name in options.operations:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
            if options.torn:
                count, wrong = tear_everywhere(name, Path(root), options.every)
            else:
                count, wrong = kill_everywhere(name, Path(root), options.every, brief=options.brief)
        failed = len({line.partition(":")[0] for line in wrong})
        print(f"{name}: {count} kills, {count - failed} left everything in order", flush=True)
        points += count
        failures += wrong
    for line in failures:
        print(line)
    print(f"{points} kills, {len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
