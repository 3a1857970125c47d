"""Flags of jobs/evaluate.py, and which of them belong together."""

from dataclasses import dataclass, field

from painter_core.evaluation.inception_input import MAX_BLUR, Convention
from painter_core.flag_checks import check_range
from painter_core.runs.flags import OUTPUTS_SCHEMA, PAIRS_SCHEMA, ModelFlags, PairFlags, TableFlags

METRICS = ("fid", "kid", "is", "clip", "likelihood", "caption")
OF_GPT = ("likelihood", "caption")
OF_INCEPTION = ("fid", "kid", "is")
OF_REFERENCE = ("fid", "kid")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """tables of pictures and captions -> score.json, score.md, report.html, and a scores table of each."""

    table: TableFlags
    input: PairFlags = field(
        default_factory=lambda: PairFlags(input_schema=OUTPUTS_SCHEMA, second_sequence="gen_imgbase64")
    )
    attributes: bool = False
    """Score attributes of the bundled sample's goods: kind, colour, pattern, background, size."""
    metrics: str = ""
    """What to measure, with commas between: fid, kid, is, clip, likelihood, caption. Several tables in
    --tables are compared side by side."""
    keep_best: int | None = None
    """With --metrics clip or caption, of a table with several pictures an idx: write OUTPUTS/best, the K best
    of each idx by that score, with all columns of the table and `rank` (0 is the best)."""
    reconstruction: bool = False
    """Measure how well --vqgan gives the pictures of a pairs table back: PSNR, SSIM, and with weights given
    LPIPS and rFID."""
    stats_only: bool = False
    """Keep Inception's features and statistics of --tables, to be given as --reference later; no score."""
    reference: str | None = None
    """For fid and kid: a pairs or outputs table, the directory that --stats-only made, or an .npz with mu and
    sigma (fid only)."""
    reference_schema: str = PAIRS_SCHEMA
    """Columns of a --reference that is a TSV, in order: name:type:length."""
    reference_sequence: str = "imgbase64"
    """Column of the picture in --reference."""
    inception: str | None = None
    """For fid, kid, is and rFID: pt_inception-2015-12-05-6726825d.pth."""
    resize: Convention = "torch-fidelity"
    """How pictures come to Inception's 299 pixels; distances of different ways cannot be compared."""
    fid_blur: str = "0"
    """Radii of the Gaussian filter over both sets before FID, with commas between; 0 is none. CogView and
    DALL-E report 0,1,2,4,8."""
    clip: str | None = None
    """For clip: the directory of a Chinese CLIP, as transformers writes it."""
    checkpoint_dir: str | None = None
    """For likelihood and caption: the model directory; for caption one that captions too."""
    vqgan: str | None = None
    """For --reconstruction: a model directory or `bundled`, which is the default."""
    perceptual_weights: str | None = None
    """For LPIPS: torchvision's VGG16, and LPIPS's heads in the same file or after a comma."""
    micro_batch_size: int | None = None
    """Pictures a model call; by default 128 on a GPU, 16 on a CPU, fewer where memory is short."""
    num_actors: str | None = None
    """Model workers: N, or MIN,MAX; by default one a GPU, or one a CPU where there is no GPU."""
    gpus_per_actor: float | None = None
    """GPUs a model worker; by default 1 if the cluster has GPUs, else 0."""
    wait_for_gpus: float = 0.0
    """Seconds in which a cluster may get the GPUs that --num-actors and --gpus-per-actor want (one, without
    them), for clusters that start their nodes on demand; then, and in a run that lost its last GPU."""

    def __post_init__(self) -> None:
        if unknown := [m for m in self.wanted if m not in METRICS]:
            raise ValueError(f"--metrics: unknown {unknown}; known are {', '.join(METRICS)}")
        if len(set(self.wanted)) < len(self.wanted):
            raise ValueError(f"--metrics {self.metrics}: one stands twice")
        modes = {"--reconstruction": self.reconstruction, "--stats-only": self.stats_only}
        chosen = [flag for flag, given in modes.items() if given]
        chosen += ["--attributes or --metrics"] if self.attributes or self.wanted else []
        if len(chosen) != 1:
            got = " and ".join(chosen) or "none of them"
            raise ValueError(f"give --attributes, --metrics, --reconstruction or --stats-only: got {got}")
        if self.table.outputs.endswith((".tsv", ".parquet")):
            raise ValueError(f"--outputs {self.table.outputs}: a score is a directory, name one")
        self._check_companions()
        self._check_choice()
        self._check_settings()
        _ = self.blurs, self.model_flags()

    def _check_companions(self) -> None:
        """What is needed is there, and nothing that would be ignored."""
        inception = self.stats_only or any(m in OF_INCEPTION for m in self.wanted)
        reference = any(m in OF_REFERENCE for m in self.wanted)
        gpt = any(m in OF_GPT for m in self.wanted)
        pairs = {
            "--inception": (self.inception, inception, inception or self.reconstruction),
            "--reference": (self.reference, reference, reference),
            "--clip": (self.clip, "clip" in self.wanted, "clip" in self.wanted),
            "--checkpoint-dir": (self.checkpoint_dir, gpt, gpt),
            "--vqgan": (self.vqgan, False, self.reconstruction),
            "--perceptual-weights": (self.perceptual_weights, False, self.reconstruction),
        }
        for flag, (value, is_needed, is_used) in pairs.items():
            if is_needed and value is None:
                raise ValueError(f"{flag}: not given, but {self._what()} needs it")
            if value is not None and not is_used:
                raise ValueError(f"{flag} {value}: given, but {self._what()} has no use for it")

    def _check_choice(self) -> None:
        """One score to choose by."""
        check_range("--keep-best", self.keep_best, 1, 4096)
        of_pictures = [m for m in self.wanted if m in ("clip", *OF_GPT)]
        if self.keep_best is not None and of_pictures not in (["clip"], ["caption"]):
            raise ValueError(
                f"--keep-best {self.keep_best}: chooses by one score of single pictures, --metrics clip or "
                f"caption; got {' and '.join(of_pictures) or self._what()}"
            )

    def _check_settings(self) -> None:
        """No setting of something that is not there."""
        no_model = not (self.stats_only or self.reconstruction or self.wanted)
        changed: dict[str, tuple[object, object, bool]] = {
            "--resize": (self.resize, "torch-fidelity", self.inception is None),
            "--reference-schema": (self.reference_schema, PAIRS_SCHEMA, self.reference is None),
            "--reference-sequence": (self.reference_sequence, "imgbase64", self.reference is None),
            "--micro-batch-size": (self.micro_batch_size, None, no_model),
            "--num-actors": (self.num_actors, None, no_model),
            "--gpus-per-actor": (self.gpus_per_actor, None, no_model),
            "--wait-for-gpus": (self.wait_for_gpus, 0.0, no_model),
        }
        for flag, (value, default, is_ignored) in changed.items():
            if value != default and is_ignored:
                raise ValueError(f"{flag} {value}: given, but {self._what()} has no use for it")
        if self.blurs != (0,) and not (self.stats_only or "fid" in self.wanted):
            raise ValueError(f"--fid-blur {self.fid_blur}: given, but {self._what()} has no use for it")

    def _what(self) -> str:
        """The flags that say what is measured."""
        if self.stats_only or self.reconstruction:
            return "--stats-only" if self.stats_only else "--reconstruction"
        return f"--metrics {self.metrics}" if self.wanted else "--attributes"

    @property
    def wanted(self) -> tuple[str, ...]:
        """The metrics."""
        return tuple(m.strip() for m in self.metrics.split(",") if m.strip())

    @property
    def blurs(self) -> tuple[int, ...]:
        """Radii; ValueError if one cannot be."""
        found = []
        for entry in self.fid_blur.split(","):
            if not entry.strip().isdecimal():
                raise ValueError(f"--fid-blur: got {self.fid_blur!r}, expected whole numbers, as 0,1,2,4,8")
            check_range("--fid-blur", int(entry), 0, MAX_BLUR)
            found.append(int(entry))
        if len(set(found)) < len(found):
            raise ValueError(f"--fid-blur {self.fid_blur}: one stands twice")
        return tuple(found)

    @property
    def tables(self) -> list[str]:
        """The tables that are judged, each for itself."""
        return [entry.strip() for entry in self.table.tables.split(",")]

    def model_flags(self) -> ModelFlags:
        """How the models of others run: always in float32."""
        return ModelFlags(
            micro_batch_size=self.micro_batch_size,
            num_actors=self.num_actors,
            gpus_per_actor=self.gpus_per_actor,
            wait_for_gpus=self.wait_for_gpus,
            precision="fp32",
            compile="off",
        )

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        names = ("reference", "inception", "clip", "perceptual_weights")  # the others may be names
        paths = {f"--{name.replace('_', '-')}": getattr(self, name) for name in names}
        return {"--tables": self.table.tables, "--outputs": self.table.outputs, **paths}
