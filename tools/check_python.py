"""Stop with a sentence, not with a traceback, where Python is too old for the book. Runs on any Python 3."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "This book needs Python 3.11 or newer; {} is Python {}.{}. Install a newer one and name it: make book "
        "PYTHON=python3.12".format(sys.executable, *sys.version_info[:2])
    )
