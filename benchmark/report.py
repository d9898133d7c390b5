"""Writes the report on benchmark/results: README.md and figures/ here, and parts of ../README.md.

    python benchmark/report.py
    python benchmark/report.py --check     writes nothing; says whether the tables are up to date
    python benchmark/report.py --results mine --report mine/README.md --readme None

The text is in report.md; tables.py and speed_tables.py make its tables, figures.py its figures.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from results import group, read
from runs import HERE, fail, missing, require

PACKAGES = ("rliable", "scipy", "matplotlib")


@dataclass
class Args:
    results: Path = HERE / "results"  # what run.py --collect made
    report: Path = HERE / "README.md"  # to write; figures go into figures/ beside it
    # its parts from <!-- results --> and <!-- speed --> to <!-- end --> are written too
    readme: Path | None = HERE.parent / "README.md"
    check: bool = False  # write nothing, compare the tables


def figure_links(cells):
    import figures

    names = ["all.png"]
    names += [figures.file_name(task) for task in sorted({task for _, _, _, task in cells})]
    return [f"![{name.removesuffix('.png')}](figures/{name})" for name in names]


def report_text(cells, validation, speed):
    import speed_tables
    import tables

    latest, older = tables.latest_and_older(cells)
    found = tables.scores(cells)
    return (
        (HERE / "report.md")
        .read_text()
        .format(
            enough=tables.ENOUGH,
            count=tables.count_verdicts(cells),
            finals=tables.final_table(latest),
            older=tables.older_table(older),
            validation=tables.validation_table(validation, cells),
            aggregates=tables.aggregate_table(found, cells),
            improvement=tables.improvement_table(found, cells),
            times=tables.time_table(cells),
            speeds=speed_tables.speed_table(speed),
            busy=speed_tables.busy_table(speed),
            limits=speed_tables.limit_table(speed),
            machines=speed_tables.machines(speed),
            figures="\n".join(figure_links(cells)),
        )
    )


def results_text(cells):
    import tables

    parts = [tables.overview_table(cells, tables.CONTINUOUS)]
    if any(key[0] in tables.DISCRETE for key in cells):
        parts.append(tables.overview_table(cells, tables.DISCRETE))
    return "\n\n".join(parts) + "\n"


def replace_part(path, text, name, part):
    """Puts `part` between <!-- name --> and the next <!-- end -->."""
    before, mark, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not mark or not end:
        fail(f"{path}: has no <!-- {name} --> … <!-- end -->")
    return before + mark + part + end + after


def main(args):
    require(*PACKAGES)
    import figures
    import speed_tables

    cells = group(read(args.results))
    if not cells:
        fail(f"--results {args.results}: holds no results")
    validation = group(read(args.results.parent / "tuning" / "validation"))
    speed = speed_tables.read_speed(args.results / "speed.jsonl")
    texts = {args.report: report_text(cells, validation, speed)}
    if args.readme:
        readme = args.readme.read_text()
        readme = replace_part(args.readme, readme, "results", results_text(cells))
        readme = replace_part(args.readme, readme, "speed", speed_tables.sentence(speed))
        texts[args.readme] = readme
    folder = args.report.parent / "figures"
    if args.check:
        return check(texts, folder, cells)
    args.report.parent.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text)
    figures.draw(cells, folder)
    print(f"written: {', '.join(map(str, [*texts, folder]))}")
    return 0


def check(texts, folder, cells):
    import figures

    stale = []
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            stale.append(str(path))
    for task in {task for _, _, _, task in cells}:
        if not (folder / figures.file_name(task)).exists():
            stale.append(figures.file_name(task))
    if stale:
        print(f"not what the results make: {', '.join(stale)}; run benchmark/report.py")
        return 1
    print("the report agrees with the results (its figures are not compared)")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__ + missing(*PACKAGES))))
