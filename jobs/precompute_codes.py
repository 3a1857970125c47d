"""Pictures to codes: streams tables of idx, text and picture through a VQGAN and writes idx, text, codes.

python jobs/precompute_codes.py --tables pairs.tsv --outputs codes/
ray job submit --working-dir . -- python jobs/precompute_codes.py --tables s3://b/pairs/ --outputs
s3://b/codes/
"""

from painter_core.checkpoint import open_model
from painter_core.devices import resolve_precision
from painter_core.stages.commit import PartWriter
from painter_core.stages.launch import parse
from painter_core.stages.precompute import (
    DecodePictures,
    EncodePictures,
    PrecomputeConfig,
    codes_table,
    identity,
    keep_vqgan,
)
from painter_core.stages.run import Job


def main() -> None:
    """Runs the job."""
    config = parse(PrecomputeConfig, __doc__)
    with Job("precompute", config.run, config.columns()) as job:
        job.start()
        model = open_model(config.vqgan)
        precision = resolve_precision(config.run.precision, gpu=job.uses_gpu)
        job.make_plan(identity(config, model), {"precision": precision})
        keep_vqgan(model, job.directory)
        decode = DecodePictures(config=config, image_size=model.vqgan.image_size)
        encode = {"vqgan": config.vqgan, "precision": precision, "micro_batch_size": job.micro_batch_size()}
        job.execute(
            lambda: (
                job.units()
                .flat_map(job.reader(), **job.tasks(0.25))
                .map(decode.__call__, **job.tasks(1.0))
                .map(EncodePictures, fn_constructor_kwargs=encode, **job.actors())
                .map(PartWriter(directory=job.directory, build=codes_table).__call__, **job.tasks(0.5))
            ),
            extra={"table": "codes", "image_len": model.vqgan.image_len},
        )


if __name__ == "__main__":
    main()
