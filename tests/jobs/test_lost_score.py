"""jobs/evaluate.py ended between the end of its table and its score: the next run writes that (fault 11)."""

from pathlib import Path

from painter_core.sample.pictures import sample_row
from tests.support.jobs import Jobs, sample_cell


def test_a_score_that_was_not_written_is_written_by_the_next_run(jobs: Jobs, tmp_path: Path) -> None:
    rows = (f"{i}\t{sample_row(5, i, split='train').text}\t{sample_cell(i)}\n" for i in range(8))
    (tmp_path / "pictures.tsv").write_text("".join(rows), encoding="utf-8")
    flags = ("--tables", tmp_path / "pictures.tsv", "--outputs", tmp_path / "scores", "--attributes")
    jobs.run("evaluate", *flags)
    written = {name: tmp_path / "scores" / name for name in ("score.json", "score.md")}
    before = {name: file.read_bytes() for name, file in written.items()}
    for file in written.values():
        file.unlink()
    assert (tmp_path / "scores" / "_SUCCESS").exists()
    jobs.run("evaluate", *flags)
    assert {name: file.read_bytes() for name, file in written.items()} == before
