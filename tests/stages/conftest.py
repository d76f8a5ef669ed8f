"""What the tests of extraction share."""

import pytest

from tests.stages.extracting import made_network, scan, write_images


@pytest.fixture(scope="session")
def network():
    return made_network()


@pytest.fixture
def files(tmp_path):
    return write_images(tmp_path)


@pytest.fixture
def images(files):
    """Records of 16 films."""
    return scan(files)
