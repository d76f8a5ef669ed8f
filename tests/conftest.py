"""Things that tests of several rooms share."""

import os

# Two test processes share two cores; libraries that each start a thread per core only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
