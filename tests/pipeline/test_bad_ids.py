"""A row whose id cannot be used reaches no network, and never leaves in silence."""

import csv

import mvp
from tests.pipeline.conftest import rejects_of, rows_of, write_rows

BAD = "S\u202e1\x1b[31m"


def test_extract_lists_the_row_and_says_so_by_its_exit_code(workspace):
    rows = rows_of(workspace)
    write_rows(workspace, [*rows, {**rows[0], "study": BAD}])
    done = mvp.extract(workspace, progress=False)
    assert done.exit_code == 4
    (reject,) = done.rejects
    assert reject.line == str(len(rows) + 2)
    assert reject.study.isprintable()
    assert "the study id" in rejects_of(workspace)[""]
    problems = mvp.check(workspace, files=False, progress=False).problems
    assert ("bad-id", "error", 1) in {(p.kind, p.severity, p.count) for p in problems}


def test_scoring_counts_the_study_among_the_rejected(workspace):
    mvp.fit_head(workspace, progress=False)
    rows = rows_of(workspace)
    path = workspace / "new.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows[:4], {**rows[4], "study": BAD}, {**rows[5], "study": BAD}])
    done = mvp.score(path, workspace, progress=False)
    assert done.exit_code == 4
    assert done.rejected_studies == 1
    assert done.studies == len({r["study"] for r in rows[:4]}) + 1
    assert done.scored + done.rejected_studies == done.studies
    with (workspace / "scores" / "new.rejected.csv").open(encoding="utf-8") as stream:
        assert [r["line"] for r in csv.DictReader(stream)] == ["6", "7"]
