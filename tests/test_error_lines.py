"""Every error is one line that says what, where, why and what to do."""

import pytest

from mvp import errors
from mvp.errors import ConfigError, ImageError, MissingExtraError, MvpError


def test_an_error_says_what_where_why_and_the_remedy():
    error = ImageError(
        "it broke", study="S1", view="frontal", path="a/b.png", cause="rust", remedy="oil"
    )
    assert str(error) == "it broke (study S1, view frontal, file a/b.png): rust. Remedy: oil"
    assert str(MvpError("it broke")) == "it broke"


@pytest.mark.parametrize("strange", ["a\nb", "a\r\nb", "\x1b[31mred", "a\u202eb", "a\u2028b", "\0"])
def test_ids_of_strangers_break_no_log(strange):
    line = str(MvpError(strange, study=strange, view=strange, path=strange, cause=strange))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_exit_codes_are_those_of_the_documentation():
    family = {
        error.__name__: error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, MvpError)
    }
    assert family == {
        "MvpError": 1,
        "ConfigError": 2,
        "MissingExtraError": 2,
        "StaleError": 2,
        "DataError": 3,
        "ImageError": 3,
        "StorageError": 1,
        "StoreDamagedError": 5,
    }
    assert (errors.REJECTED_EXIT_CODE, errors.INTERRUPTED_EXIT_CODE) == (4, 130)


def test_a_missing_library_comes_with_its_command():
    line = str(MissingExtraError("timm", "timm", "this network"))
    assert "pip install 'multiview-pipeline[timm]'" in line


def test_a_question_is_followed_by_no_full_stop():
    error = ConfigError("no view 'x'; did you mean 'y'?", remedy="correct it")
    assert str(error) == "no view 'x'; did you mean 'y'? Remedy: correct it"
