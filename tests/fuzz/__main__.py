"""`python -m tests.fuzz --seconds 300 --seed 0`: mutants until the time is up; exit code 1 when any of them broke a promise.

`--only SEED` runs one mutant again. The mutant of a seed is always the same.
"""

import argparse
import sys

from tests.fuzz.campaign import campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Mutates real shards and checks the account of each.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the first mutant; the next ones follow")
    parser.add_argument("--only", type=int, help="run the mutant of this seed alone")
    given = parser.parse_args()
    first = given.seed if given.only is None else given.only
    result = campaign(first, given.seconds, None if given.only is None else 1)
    print(result.told())
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
