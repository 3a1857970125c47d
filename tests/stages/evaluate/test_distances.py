"""FID, KID and IS of the whole job: torch-fidelity's numbers, whatever the reference is kept as."""

from pathlib import Path

import numpy as np
import pytest

from tests.golden.make_evaluation import SETS
from tests.support.evaluation import judge, write_pictures
from tests.support.judges import golden_values
from tests.support.local_run import rows_of

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
    assert judge(tables / "y.parquet", kept, stats_only=True, inception=str(inception)) == {}
    return kept


@pytest.fixture(scope="module")
def scored(tables: Path, kept: Path, inception: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x and y beside the reference y."""
    outputs = tmp_path_factory.mktemp("scored") / "score"
    both = f"{tables / 'x.tsv'},{tables / 'y.parquet'}"
    judge(both, outputs, metrics=METRICS, reference=str(kept), inception=str(inception))
    return outputs


def again(tables: Path, scored: Path, inception: Path, **flags: object) -> list[dict]:
    """The scores of both tables beside another reference; their features are there."""
    both = f"{tables / 'x.tsv'},{tables / 'y.parquet'}"
    before = rows_of(scored)
    found = judge(both, scored, inception=str(inception), **flags)["tables"]
    assert {name: data for name, data in rows_of(scored).items() if name in before} == before
    return found


def test_they_are_torch_fidelitys(tables: Path, scored: Path, kept: Path, inception: Path) -> None:
    golden = golden_values()
    x, _ = again(tables, scored, inception, metrics=METRICS, reference=str(kept))
    assert x["fid"][0]["value"] == pytest.approx(golden["frechet_inception_distance"], rel=1e-3)
    assert x["inception_score"]["mean"] == pytest.approx(golden["inception_score_mean"], rel=1e-3)
    assert x["inception_score"]["deviation"] == pytest.approx(golden["inception_score_std"], rel=1e-3)
    assert x["kid"]["mean"] == pytest.approx(golden["kernel_inception_distance_mean"], rel=1e-3)
    assert x["kid"]["deviation"] == pytest.approx(golden["kernel_inception_distance_std"], rel=1e-3)
    assert (x["rows"]["pictures"], x["why"]) == (24, {})


def test_a_table_beside_itself_is_0(tables: Path, scored: Path, kept: Path, inception: Path) -> None:
    _, y = again(tables, scored, inception, metrics=METRICS, reference=str(kept))
    assert (y["fid"][0]["value"], y["kid"]["mean"], y["kid"]["deviation"]) == (0.0, 0.0, 0.0)


def test_statistics_alone_give_the_same_fid(
    tables: Path, scored: Path, kept: Path, inception: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_rows = again(tables, scored, inception, metrics=METRICS, reference=str(kept))
    npz = kept / "statistics.npz"
    found = again(tables, scored, inception, metrics=METRICS, reference=str(npz))
    assert found[0]["fid"][0]["value"] == pytest.approx(of_rows[0]["fid"][0]["value"], rel=1e-6)
    assert found[1]["fid"][0]["value"] == 0.0
    assert (found[0]["fid"][0]["form"], of_rows[0]["fid"][0]["form"]) == ("statistics", "features")
    assert found[0]["kid"] is None
    assert "without the features of single pictures" in found[0]["why"]["KID"]
    with np.load(npz) as archive:  # as pytorch-fid reads it, and with what makes it comparable
        assert (archive["mu"].shape, archive["sigma"].shape, int(archive["n"])) == ((2048,), (2048, 2048), 30)
        np.savez(kept / "foreign.npz", mu=archive["mu"], sigma=archive["sigma"])
    foreign = judge(
        tables / "x.tsv", kept.parent / "foreign", metrics="fid", reference=str(kept / "foreign.npz"),
        inception=str(inception), limit=2,
    )  # fmt: skip
    assert any("does not say its resize, blur, weights_sha256" in note for note in foreign["notes"])
    assert foreign["reference"]["n"] is None


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
    flags = {"inception": str(inception), "limit": 1}
    (one,) = judge(tables / "x.tsv", tmp_path / "o", metrics=METRICS, reference=str(kept), **flags)["tables"]
    assert (one["fid"][0]["value"], one["kid"], one["inception_score"]["mean"]) == (None, None, 1.0)
    assert one["why"] == dict.fromkeys(("FID-0", "KID"), "1 pictures; it needs at least 2")
    assert "no FID-0: 1 pictures" in (tmp_path / "o" / "score.md").read_text()
    with pytest.raises(SystemExit, match="2"):
        judge(tables / "x.tsv", tmp_path / "s", stats_only=True, **flags)


def test_blurred_sets_have_their_own_distance(tables: Path, inception: Path, tmp_path: Path) -> None:
    """The reference is a table here, whose features stand beside the score."""
    reference = {"reference": str(tables / "y.parquet"), "reference_sequence": "gen_imgbase64"}
    found = judge(
        tables / "x.tsv", tmp_path / "o", metrics="fid", fid_blur="0,4", inception=str(inception), limit=4,
        **reference, micro_batch_size=2,
    )  # fmt: skip
    fids = {fid["blur"]: fid["value"] for fid in found["tables"][0]["fid"]}
    assert set(fids) == {0, 4}
    assert abs(fids[0] - fids[4]) > 0.1
    assert found["reference"]["n"] == 30, "--limit is of the tables that are judged"
    assert (tmp_path / "o" / "reference" / "manifest.json").exists()
    assert "Gaussian" in found["made_with"]["blur of FID-k"]
