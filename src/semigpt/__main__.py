"""`python -m semigpt` is `semigpt`."""

import sys

from semigpt.cli import main

sys.exit(main())
