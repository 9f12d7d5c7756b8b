"""Run the benches, each file in a process of its own: `python benches/run.py [throughput …] [--rounds N] [--quick]`.

A process each, so that threads, caches and memory of one do not colour the next; arms that are compared with each other
share one. The exit code says whether all results were right, never whether a bar was reached.
"""

from __future__ import annotations

import subprocess
import sys

from measure import HERE, parser

NAMES = ("throughput", "latency", "sharing", "memory", "startup", "codec", "workers", "recovery")


def main():
    asked = parser("Run the benches.", NAMES)
    given = asked.parse_args()
    if unknown := set(given.name) - set(NAMES):
        asked.error(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    options = [f"--rounds={given.rounds}"] + ["--quick"] * given.quick + ["--full"] * given.full
    wrong = []
    for name in given.name or NAMES:
        command = [sys.executable, str(HERE / f"{name}.py"), *options]
        if subprocess.run(command, check=False).returncode != 0:
            wrong.append(name)
    if wrong:
        sys.exit(f"wrong results in: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
