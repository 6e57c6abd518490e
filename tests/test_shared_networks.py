"""One planted network may be shown by several suites: what is sealed for one of them must not replace another's."""

from gifthorse.bench.changes import Changes
from gifthorse.bench.executors import Serial
from gifthorse.bench.plan import make_plan
from gifthorse.bench.run import run_suite
from gifthorse.bench.suite import load_suite


def test_suites_that_show_different_numbers_of_pictures_keep_their_own_footprints(small_suite, tmp_path):
    path = str(small_suite(tmp_path / "small.toml", "small", ["true-mask", "edge"]))
    few, many = load_suite(path), load_suite(path, changes=Changes(sets=("shown=5",)))
    home = tmp_path / "home"
    before = run_suite(few, home, Serial(), force=True).report
    longer = run_suite(many, home, Serial(), force=True).report
    assert make_plan(few).lineages[0].trojaned.digest == make_plan(many).lineages[0].trojaned.digest
    again = run_suite(few, home, Serial(), force=True).report
    assert again["attribution"] == before["attribution"]
    assert len(before["attribution"]) == len(longer["attribution"])
    assert {
        row["mean"] for row in longer["attribution"] if row["tool"] == "true-mask" and row["metric"] == "pearson"
    } == {1}
