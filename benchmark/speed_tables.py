"""The report's tables of speed, from results/speed.jsonl."""

import json
import statistics

from speed import CELLS, rate
from tables import markdown


def read_speed(path):
    """The records of speed.py, in the order of its cells."""
    if not path.exists():
        return []
    records = [json.loads(line) for line in path.read_text().splitlines()]
    known = [record for record in records if record["cell"] in CELLS]
    order = list(CELLS)
    return sorted(known, key=lambda record: (order.index(record["cell"]), record["threads"]))


def median_rate(record, side):
    return statistics.median(rate(sides[side]) for sides in record["rounds"])


def ratios(record, a, b):
    return [rate(sides[a]) / rate(sides[b]) for sides in record["rounds"]]


def ratio_text(record, a, b):
    values = ratios(record, a, b)
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def has(record, *sides):
    return all(side in record["rounds"][0] for side in sides)


def place(record):
    return [CELLS[record["cell"]].title, record["device"], record["threads"]]


def speed_table(records):
    rows = []
    for record in records:
        for mine in ("ours", "compiled"):
            row = [*place(record), "--compile" if mine == "compiled" else "eager"]
            row.append(f"{median_rate(record, mine):,.0f}")
            for peer in ("sb3", "sbx"):
                if has(record, peer):
                    row += [f"{median_rate(record, peer):,.0f}", ratio_text(record, mine, peer)]
                else:
                    row += ["–", "–"]
            rows.append([*row, f"{len(record['rounds'])}, {record['date']}"])
    header = "work | device | threads | ours | steps/s | Stable-Baselines3 | ratio | SBX (JAX)"
    return markdown(f"{header} | ratio | rounds, date", "llrlrrrrrl", rows)


def busy_table(records):
    rows = []
    for record in records:
        if has(record, "ours busy", "sb3 busy"):
            ours = ratio_text(record, "ours busy", "ours")
            sb3 = ratio_text(record, "sb3 busy", "sb3")
            rows.append([*place(record), ours, sb3])
    header = "work | device | threads | ours keeps, of its steps/s | Stable-Baselines3 keeps"
    return markdown(header, "llrrr", rows)


def limit_table(records):
    rows = []
    for record in records:
        if has(record, "update", "compiled update", "products"):
            row = place(record)
            for side in ("products", "update", "compiled update"):
                row.append(f"{1000 / median_rate(record, side):.2f}")
            row.append(ratio_text(record, "products", "update"))
            row.append(ratio_text(record, "products", "compiled update"))
            rows.append(row)
    header = "work | device | threads | products | update | compiled | update / products"
    return markdown(f"{header} | compiled / products", "llrrrrrr", rows)


def machines(records):
    lines = set()
    for record in records:
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        lines.add(f"Measured on {record['processor']}; {versions}.")
    return "\n".join(sorted(lines))


def sentence(records):
    """For a reader with little time: steps per second beside others, one thread."""
    beside_sb3 = []
    beside_sbx = []
    for record in records:
        if record["threads"] == 1 and record["device"] == "cpu" and has(record, "sb3"):
            name = CELLS[record["cell"]].title.partition(",")[0]
            eager = statistics.median(ratios(record, "ours", "sb3"))
            compiled = statistics.median(ratios(record, "compiled", "sb3"))
            beside_sb3.append(f"{name} {eager:.1f} (with `--compile` {compiled:.1f})")
            if has(record, "sbx"):
                ratio = statistics.median(ratios(record, "compiled", "sbx"))
                beside_sbx.append(f"{name} {ratio:.1f}")
    if not beside_sb3:
        return ""
    text = (
        "Steps per second as a multiple of Stable-Baselines3's, with the same networks, batches "
        "and updates on one CPU thread, our MuJoCo tasks stepped by `native_mujoco.py`: "
        f"{', '.join(beside_sb3)}"
    )
    if beside_sbx:
        text += f"; of SBX's, in JAX, with `--compile`: {', '.join(beside_sbx)}"
    return f"{text}; [how it was measured](benchmark/README.md#speed).\n"
