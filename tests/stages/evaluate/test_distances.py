"""FID, KID and IS of the whole job: torch-fidelity's numbers, whatever the reference is kept as."""

import json
from pathlib import Path

import numpy as np
import pytest

from painter_core.stages.evaluate.judging import InceptionJudge
from painter_core.stages.evaluate.reference import open_reference
from tests.golden.make_evaluation import SETS
from tests.support.evaluation import judge, write_pictures
from tests.support.judges import golden_values
from tests.support.local_run import rows_of

pytestmark = pytest.mark.long

METRICS = "fid,kid,is"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x.tsv and y.parquet: the pictures of the golden values."""
    root = tmp_path_factory.mktemp("pictures")
    write_pictures(root / "x.tsv", SETS["x"])
    write_pictures(root / "y.parquet", SETS["y"])
    return root


@pytest.fixture(scope="module")
def kept(tables: Path, inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference y, made once."""
    kept = tmp_path_factory.mktemp("kept") / "y"
    flags = {"stats_only": True, "inception": str(inception), "micro_batch_size": 10}
    assert judge(tables / "y.parquet", kept, **flags) == {}
    return kept


@pytest.fixture(scope="module")
def scored(tables: Path, kept: Path, inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x beside the reference y."""
    outputs = tmp_path_factory.mktemp("scored") / "score"
    score(tables, outputs, inception, kept)
    return outputs


def score(tables: Path, outputs: Path, inception: Path, reference: Path) -> dict:
    """The score of x."""
    flags = {"reference": str(reference), "inception": str(inception), "micro_batch_size": 8}
    return judge(tables / "x.tsv", outputs, metrics=METRICS, **flags)["tables"][0]


def test_they_are_torch_fidelitys(scored: Path) -> None:
    golden, x = golden_values(), json.loads((scored / "score.json").read_text())["tables"][0]
    assert x["fid"][0]["value"] == pytest.approx(golden["frechet_inception_distance"], rel=1e-3)
    assert x["inception_score"]["mean"] == pytest.approx(golden["inception_score_mean"], rel=1e-3)
    assert x["inception_score"]["deviation"] == pytest.approx(golden["inception_score_std"], rel=1e-3)
    assert x["kid"]["mean"] == pytest.approx(golden["kernel_inception_distance_mean"], rel=1e-3)
    assert x["kid"]["deviation"] == pytest.approx(golden["kernel_inception_distance_std"], rel=1e-3)
    assert (x["rows"]["pictures"], x["why"]) == (24, {})


def test_a_table_beside_itself_is_0(tables: Path, scored: Path, inception: Path) -> None:
    """Features that are there are not computed again, whatever they are held against."""
    before = rows_of(scored)
    x = score(tables, scored, inception, scored)
    assert (x["fid"][0]["value"], x["kid"]["mean"], x["kid"]["deviation"]) == (0.0, 0.0, 0.0)
    assert {name: data for name, data in rows_of(scored).items() if "part-" in name} == {
        name: data for name, data in before.items() if "part-" in name
    }


def test_statistics_alone_give_the_same_fid(
    tables: Path, scored: Path, kept: Path, inception: Path, tmp_path: Path
) -> None:
    of_rows = score(tables, scored, inception, kept)
    npz = kept / "statistics.npz"
    found = score(tables, scored, inception, npz)
    # of few pictures, some of one colour: fewer ranks than rows, where both forms carry noise
    assert found["fid"][0]["value"] == pytest.approx(of_rows["fid"][0]["value"], rel=1e-5)
    assert (found["fid"][0]["form"], of_rows["fid"][0]["form"]) == ("statistics", "features")
    assert found["kid"] is None
    assert "without the features of single pictures" in found["why"]["KID"]
    with np.load(npz) as archive:  # as pytorch-fid reads it, and with what makes it comparable
        assert (archive["mu"].shape, archive["sigma"].shape, int(archive["n"])) == ((2048,), (2048, 2048), 30)
        np.savez(tmp_path / "foreign.npz", mu=archive["mu"], sigma=archive["sigma"])
    judging = InceptionJudge(file="", sha256="ab", resize="torch-fidelity")
    foreign, (note,) = open_reference(str(tmp_path / "foreign.npz"), None, judging, tmp_path)
    assert "does not say its resize, blur, weights_sha256" in note
    assert (foreign.shown.n, foreign.of_blur(0).n) == (None, None)


def test_what_cannot_be_compared_is_refused(
    tables: Path, kept: Path, inception: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(reference: Path, message: str, **flags: object) -> None:
        caplog.clear()
        with pytest.raises(SystemExit, match="2"):
            judge(
                tables / "x.tsv", tmp_path / "o", metrics="fid", reference=str(reference),
                inception=str(inception), **flags,
            )  # fmt: skip
        assert message in caplog.text
        assert not (tmp_path / "o").exists(), "before hours are spent"

    refused(kept, "its features have resize torch-fidelity", resize="clean")
    refused(kept, "has no features of blur [4]; make it again", fid_blur="0,4")
    refused(kept / "statistics.npz", "made with resize torch-fidelity", resize="pytorch-fid")
    refused(kept / "statistics.npz", "statistics are of one blur", fid_blur="0,2")
    refused(tables / "x.tsv", "imgbase64", reference_sequence="imgbase64", reference_schema="idx,imgbase64")
    refused(tables / "y.parquet", "Its columns are named by --reference-schema")
    refused(tables / "gone.npz", "cannot be read as statistics")


def test_one_picture_has_no_distance(tables: Path, kept: Path, inception: Path, tmp_path: Path) -> None:
    flags = {"inception": str(inception), "limit": 1, "micro_batch_size": 1}
    (one,) = judge(tables / "x.tsv", tmp_path / "o", metrics=METRICS, reference=str(kept), **flags)["tables"]
    assert (one["fid"][0]["value"], one["kid"], one["inception_score"]["mean"]) == (None, None, 1.0)
    assert one["why"] == dict.fromkeys(("FID-0", "KID"), "1 pictures; it needs at least 2")
    assert "no FID-0: 1 pictures" in (tmp_path / "o" / "score.md").read_text()
    with pytest.raises(SystemExit, match="2"):
        judge(tables / "x.tsv", tmp_path / "s", stats_only=True, **flags)


def test_blurred_sets_have_their_own_distance(tables: Path, inception: Path, tmp_path: Path) -> None:
    """The reference is a table here, whose features stand beside the score."""
    table = write_pictures(tmp_path / "r.parquet", range(101, 104))
    reference = {"reference": str(table), "reference_sequence": "gen_imgbase64"}
    found = judge(
        tables / "x.tsv", tmp_path / "o", metrics="fid", fid_blur="0,4", inception=str(inception), limit=2,
        **reference, micro_batch_size=2,
    )  # fmt: skip
    fids = {fid["blur"]: fid["value"] for fid in found["tables"][0]["fid"]}
    assert set(fids) == {0, 4}
    assert abs(fids[0] - fids[4]) > 0.1
    assert found["reference"]["n"] == 3, "--limit is of the tables that are judged"
    assert (tmp_path / "o" / "reference" / "manifest.json").exists()
    assert "Gaussian" in found["made_with"]["blur of FID-k"]
