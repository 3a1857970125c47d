"""The last line of every job: what to do next, as a command where there is one."""

import shlex

from painter_core.files.storage import redact

# job, or job and what it made -> what comes next; {0} is the output
_NEXT = {
    "make_table": "turn the pictures into codes: python jobs/precompute_codes.py --tables {0} "
    "--outputs codes/",
    "make_table prompts": "paint them: python jobs/generate.py --tables {0} --checkpoint-dir model/ "
    "--outputs pictures.tsv",
    "precompute_codes": "train on them: python jobs/train.py --tables {0} --checkpoint-dir model/",
    "train": "paint with it: python jobs/generate.py --tables prompts.tsv --checkpoint-dir {0} "
    "--outputs pictures.tsv",
    "train_vqgan": "make codes with it: python jobs/precompute_codes.py --tables pairs.tsv --vqgan {0} "
    "--outputs codes/",
    "generate": "look at them: python jobs/make_gallery.py --tables {0} --outputs gallery.html",
    "caption": "look at it: python jobs/report.py {0} --outputs captions.html",
    "upscale": "look at them: python jobs/make_gallery.py --tables {0} --outputs gallery.html",
    "evaluate": "open {0}/report.html in a browser",
    "evaluate statistics": "compare with them: python jobs/evaluate.py --tables pictures.tsv --reference "
    "{0}/statistics.npz --metrics fid,kid --inception FILE.pth --outputs score/",
    "make_gallery": "open {0} in a browser",
    "report": "open {0} in a browser",
    "inspect_table": "read more of it: python jobs/inspect_table.py --tables {0} --max-rows 0 --verify",
    "inspect_table pairs": "turn the pictures into codes: python jobs/precompute_codes.py --tables {0} "
    "--outputs codes/",
    "inspect_table prompts": "paint them: python jobs/generate.py --tables {0} --checkpoint-dir model/ "
    "--outputs pictures.tsv",
    "inspect_table codes": "train on them: python jobs/train.py --tables {0} --checkpoint-dir model/",
    "inspect_table outputs": "look at them: python jobs/make_gallery.py --tables {0} --outputs gallery.html",
    "inspect_table captions": "look at it: python jobs/report.py {0} --outputs captions.html",
    "inspect_table scores": "open {0}/report.html in a browser",
    "inspect_table model": "paint with it: python jobs/generate.py --tables prompts.tsv --checkpoint-dir {0} "
    "--outputs pictures.tsv",
    "convert_checkpoint": "paint with it: python jobs/generate.py --tables prompts.tsv --checkpoint-dir {0} "
    "--outputs pictures.tsv",
    "convert_checkpoint vqgan": "make codes with it: python jobs/precompute_codes.py --tables pairs.tsv "
    "--vqgan {0} --outputs codes/",
    "convert_checkpoint clip": "score pictures with it: python jobs/evaluate.py --tables pictures.tsv "
    "--metrics clip --clip {0} --outputs score/",
    "convert_checkpoint easynlp": "EasyNLP takes it as pretrain_model_name_or_path, a name among its "
    "--user_defined_parameters: {0}",
    "convert_checkpoint list": "fetch one: python jobs/convert_checkpoint.py --source NAME --outputs model/",
}
DRY_RUN = "nothing was written: give the same command without --dry-run"
AGAIN = "submit the same command again{0}; if it ends the same way, the lines above say why"


def next_step(job: str, output: str = "", *, made: str = "", dry_run: bool = False) -> str:
    """What to do after a job that succeeded.

    Args:
        job: NAME of jobs/NAME.py.
        output: what it wrote, a path or URL.
        made: which of several kinds of things.
        dry_run: whether it wrote nothing.
    """
    if dry_run:
        return DRY_RUN
    return _NEXT.get(f"{job} {made}", _NEXT[job]).format(shlex.quote(redact(output.rstrip("/"))))


def after_failure(*, began: bool) -> str:
    """What to do after a job that a bug or a fault of the machine ended.

    Args:
        began: whether it had written something, from which it goes on.
    """
    return AGAIN.format(", it goes on where this one ended" if began else "")
