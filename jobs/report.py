"""What a job wrote, to one HTML page: curves or counts, rejects, samples, speed, settings, sources.

python jobs/report.py model/

python jobs/report.py codes/train --outputs codes.html
"""

from painter_core.runs.command_line import parse
from painter_core.runs.run import Run
from painter_core.stages.report.run import ReportConfig, report


def main() -> None:
    """Runs the job."""
    config = parse(ReportConfig, __doc__)
    with Run(config.paths()) as run:
        report(config, run)


if __name__ == "__main__":
    main()
