"""The start of an `mvp.toml`: what is guessed is said, what cannot be guessed is asked for."""

import pytest

from mvp.data.tables.guess import guess
from mvp.data.tables.table import read_table
from mvp.errors import ConfigError


def table(folder, text):
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return read_table(folder / "t.csv")


def refused(folder, text, **named):
    with pytest.raises(ConfigError) as caught:
        guess(table(folder, text), **named)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_table_with_the_usual_names(tmp_path):
    found = guess(
        table(
            tmp_path,
            "Study ID,PatientID,ViewPosition,split,file,mass,age\n"
            "1,7,PA,train,a.png,1,33\n2,8,AP Supine,test,b.png,0,44\n3,9,LL,test,c.png,,55\n",
        )
    )
    assert (found.study, found.patient) == (["Study ID"], ["PatientID"])
    assert (found.view, found.path, found.split) == ("ViewPosition", "file", "split")
    assert found.views == {"frontal": ["PA", "AP Supine"], "lateral": ["LL"]}
    assert found.binary == ["mass"]
    assert any("mass" in note for note in found.notes)


def test_without_a_study_column_a_patient_is_a_study_and_it_is_said(tmp_path):
    found = guess(table(tmp_path, "patient,view,path,mass\n1,PA,a.png,1\n2,PA,b.png,0\n"))
    assert found.study == found.patient == ["patient"]
    assert any("each patient is taken as one study" in note for note in found.notes)


def test_without_a_patient_column_it_is_said(tmp_path):
    found = guess(table(tmp_path, "study,view,path,mass\n1,PA,a.png,1\n2,PA,b.png,0\n"))
    assert any("no patient column" in note for note in found.notes)


def test_views_are_found_by_their_values_and_blanks_are_counted(tmp_path):
    found = guess(table(tmp_path, "study,x,path,mass\n1,CC,a.png,1\n2,MLO,b.png,0\n3,,c.png,0\n"))
    assert found.view == "x"
    assert set(found.views) == {"cc", "mlo"}
    assert any("1 rows have no view" in note for note in found.notes)


def test_a_view_without_a_latin_letter_is_not_passed_over_in_silence(tmp_path):
    found = guess(table(tmp_path, "study,view,path,m\n1,PA,a.png,1\n2,正面,b.png,0\n"))
    assert set(found.views) == {"frontal"}
    assert any("正面" in note for note in found.notes)


def test_findings_of_one_text_column(tmp_path):
    found = guess(
        table(
            tmp_path,
            "study,view,path,Finding Labels,finding\n"
            "1,PA,a.png,x,Mass|Nodule\n2,PA,b.png,y,No Finding\n3,PA,c.png,z,mass|\n",
        )
    )
    assert found.finding_column == "finding"
    assert found.separator == "|"
    assert found.findings == {
        "mass": ["Mass", "mass"],
        "nodule": ["Nodule"],
        "no_finding": ["No Finding"],
    }


def test_what_a_user_names_is_taken(tmp_path):
    text = "study,patient,other,view,p1,p2,mass\n1,2,9,PA,a.png,b.png,1\n2,3,9,PA,c.png,d.png,0\n"
    found = guess(table(tmp_path, text), study=["other", "study"], path="p2")
    assert found.study == ["other", "study"]
    assert found.path == "p2"


def test_what_cannot_be_guessed_is_asked_for(tmp_path):
    whole = "study,view,path,mass\n1,PA,a.png,1\n2,PA,b.png,0\n"
    assert "--path" in refused(tmp_path, whole.replace(".png", ""))
    assert "--view" in refused(tmp_path, whole.replace("view", "v").replace("PA", "q"))
    assert "--study" in refused(tmp_path, whole.replace("study", "x"))
    assert "label" in refused(tmp_path, whole.replace("b.png,0", "b.png,7"))
    assert "'nope'" in refused(tmp_path, whole, study=["nope"])
