"""Things that tests of several rooms share."""

import os

# Two test processes share two cores; libraries that each start a thread per core only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Files of few tests that take long: begun last, one of them would run while the other process has
# nothing left to do.
FIRST = [
    "test_end_to_end.py",
    "test_chest_films.py",
    "test_extract_together.py",
    "test_training_processes.py",
    "test_import_features.py",
    "test_kill.py",
    "test_mrnet.py",
    "test_engines_onnx.py",
    "test_attacks.py",
    "test_table_view.py",
    "test_remote.py",
    "test_processes.py",
]


def pytest_collection_modifyitems(items):
    """Long files first; `make test` gives the files to its processes in this order."""
    last = len(FIRST)
    place = {name: i for i, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, last))
