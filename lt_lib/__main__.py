"""`python -m lt_lib` is the command `lt-lib`."""

import sys

from lt_lib.cli import main

sys.exit(main())
