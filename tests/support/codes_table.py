"""A codes table made in this process, without Ray: the same operators, one after the other."""

from pathlib import Path

from painter_core.model_files.open import open_model
from painter_core.runs.run_config import RunConfig
from painter_core.stages.parts import codes_table
from painter_core.stages.precompute_codes import EncodePictures, PrecomputeConfig, identity, keep_vqgan
from painter_core.tables.inputs import find_files
from painter_core.tables.manifest import finish, read_records
from painter_core.tables.part_writer import PartWriter
from painter_core.tables.plan import Plan
from painter_core.tables.reader import UnitReader
from painter_core.tables.run_directory import RunDirectory
from painter_core.tables.units import plan_units


def make_codes(pairs: Path, vqgan: Path, outputs: Path, *, units: int | None = None) -> Path:
    """A codes table; unfinished if only the first `units` units are to be done."""
    config = PrecomputeConfig(run=RunConfig(tables=str(pairs), outputs=str(outputs)), vqgan=str(vqgan))
    model, directory = open_model(str(vqgan)), RunDirectory(str(outputs))
    assert model.vqgan is not None
    files, columns = find_files(str(pairs)), config.columns()
    plan = Plan(
        stage="precompute",
        identity={"stage": "precompute", **identity(config, model)},
        settings={},
        files=files,
        units=plan_units(files, columns, micro_batch_size=16, limit=None),
    )
    directory.write_json(plan.to_json(), "_run", "plan.json")
    keep_vqgan(model, directory)
    reader = UnitReader(files=files, columns=columns, stage="precompute", keep_rejected=False)
    decode = config.decoder(model.vqgan.image_size)
    encode = EncodePictures(vqgan=str(vqgan), precision="fp32", micro_batch_size=16)
    write = PartWriter(directory=directory, build=codes_table)
    for row in reader.read(plan.units[:units]):
        write(encode(decode(row)))
    if units is None:
        extra = {"table": "codes", "image_len": model.vqgan.image_len}
        finish(directory, plan, read_records(directory, plan), extra)
    return outputs
