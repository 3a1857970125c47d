"""What inspect_table finds in a table, as facts of a page, in words."""

from painter_core.stages.inspect_table.stats import CaptionReport, CodeReport, PictureReport
from painter_core.stages.report.page import Fact
from painter_core.text.escape import visible


def caption_facts(found: CaptionReport) -> tuple[Fact, ...]:
    """Of captions."""
    lengths = (
        f"mean {found.mean_tokens:g}, median {found.median_tokens}, 95 % up to {found.p95_tokens}, longest "
        f"{found.max_tokens}"
    )
    unknown = f"{found.unk_fraction:.1%} of them, in {found.with_unk_fraction:.1%} of the captions"
    return (
        Fact(name="captions read", value=f"{found.num_captions:,}"),
        Fact(name="tokens of a caption", value=lengths),
        Fact(name=f"longer than {found.text_len} tokens", value=f"{found.cut_fraction:.1%}"),
        Fact(name="unknown tokens", value=unknown),
        Fact(name="of unknown tokens only", value=f"{found.num_all_unk:,} captions"),
    )


def picture_facts(found: PictureReport) -> tuple[Fact, ...]:
    """Of the pictures that were decoded."""
    facts = [
        Fact(name="pictures looked at", value=f"{found.num_decoded:,}"),
        Fact(name="formats", value=_counts(found.formats)),
        Fact(name="colours", value=_counts(found.modes)),
        Fact(name="sizes", value=_counts(found.sizes)),
        Fact(name="median size", value=f"{found.median_bytes:,} bytes"),
        Fact(name="of one colour all over", value=f"{found.num_blank:,}"),
    ]
    if found.rejected:
        facts.append(Fact(name="cannot be used", value=_counts(found.rejected)))
    return tuple(facts)


def code_facts(found: CodeReport) -> tuple[Fact, ...]:
    """Of codes."""
    used = f"{found.num_codes_used:,} different ones, the largest {found.max_code:,}"
    return (
        Fact(name="codes of a picture", value=f"{found.image_len:,}"),
        Fact(name="used", value=used),
        Fact(name="same as an earlier row", value=f"{found.num_repeated:,} of {found.num_rows:,} rows"),
        Fact(name="of one code only", value=f"{found.num_uniform:,} rows"),
    )


def _counts(counts: dict[str, int]) -> str:
    return visible(", ".join(f"{name} {count:,}" for name, count in counts.items())) or "none"
