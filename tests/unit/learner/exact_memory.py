"""Trains the networks of test_builds with memory of exactly the needed size; prints their hash.

Run by test_builds under AddressSanitizer: `python exact_memory.py LIBRARY`.
"""

import sys
from pathlib import Path

from test_builds import trained_sha256

from tinyfleet.learner import native


def main():
    native._ALIGNMENT = 1  # no spare bytes: one past the arena is one too far
    library = native.load_library(Path(sys.argv[1]))
    sys.stdout.write(trained_sha256(lambda spec: native.NativeLearner(spec, library)) + "\n")


if __name__ == "__main__":
    main()
