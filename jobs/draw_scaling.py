#!/usr/bin/env python3
"""Table and picture of how `gramarye bench` scales with ranks:  python3 jobs/draw_scaling.py LINES ... [PICTURE]

LINES are files of its JSON lines, from jobs/strong_scaling.sbatch or weak_scaling.sbatch. The table goes to standard
output; PICTURE, which ends in .png, .pdf or .svg, needs matplotlib. Speed-up is that of pairs a second over the fewest
ranks, so that it says the same of a fixed size and of one that grows; efficiency is speed-up / ranks.

The model divides the seconds of the fewest ranks evenly and adds what products communicate, q columns of N doubles on a
grid of pr x pc = P ranks (pc = 1 but for product.grid), where pairs that are evaluated once (symmetric) travel twice:
  N^2 / (P R) + [2] (ceil(lg pr) + ceil(lg pc)) latency + [2] 8 q N (1/pr + 1/pc - 2/P) / bandwidth
"""
import argparse
import collections
import math
import sys

from draw_bench import matplotlib, plain_ticks, read, spread, style

CASE = ["kind", "kernel", "dim", "rhs", "precision", "symmetric", "backend", "grid"]  # what a curve has in common


def curves(lines):
    """{label: lines by ranks}: of one size where each rank count has several, else of sizes that grow with the ranks."""
    cases = collections.defaultdict(dict)
    for line in lines:  # of equal cases the last counts
        cases[tuple(str(line.get(key)) for key in CASE)][line["ranks"], line["size"]] = line
    found = {}
    for case, at in cases.items():
        ranks, sizes = {r for r, _ in at}, sorted({n for _, n in at})
        words = dict(zip(CASE, case))
        label = f"{words['kind']}, {words['kernel']}, d = {words['dim']}, {words['precision']}, {words['backend']}"
        label += {"True": ", pairs once", "False": ", pairs twice"}.get(words["symmetric"], "")
        label += "" if words["rhs"] == "1" else f", {words['rhs']} columns"
        label += "" if words["grid"] in ("auto", "1d", "None") else f", grid {words['grid']}"
        if len(at) == len(ranks) and len(sizes) > 1:
            found[f"{label}, {sizes[0]} to {sizes[-1]} points"] = [at[key] for key in sorted(at)]
        else:
            for n in sizes:
                found[f"{label}, {n} points"] = [at[key] for key in sorted(at) if key[1] == n]
    return found


def speed_up(line, first):
    return line["pairs_per_second"] / first["pairs_per_second"] * first["ranks"]


def shape(line):
    """(pr, pc) of the ranks."""
    p, grid = line["ranks"], str(line.get("grid", "auto"))
    if grid == "2d":
        pr = next(r for r in range(math.isqrt(p), 0, -1) if p % r == 0)
        return p // pr, pr
    if "," in grid and math.prod(map(int, grid.split(","))) == p:
        return tuple(map(int, grid.split(",")))
    return p, 1


def volume(line):
    """Bytes that a rank receives in a product, by the formula above."""
    pr, pc = shape(line)
    return (1 + line["symmetric"]) * 8 * line["rhs"] * line["size"] * (1 / pr + 1 / pc - 2 / (pr * pc))


def communication(line, latency, bandwidth):
    """Seconds, by the formula above, of one product, or of all of a solve."""
    steps = (1 + line["symmetric"]) * sum(math.ceil(math.log2(p)) for p in shape(line))
    return (steps * latency + volume(line) / bandwidth) * max(line.get("iterations", 1), 1)


def model(line, first, latency, bandwidth):
    """Seconds."""
    compute = max(first["seconds"] - communication(first, latency, bandwidth), 0) * first["ranks"]
    share = (line["size"] / first["size"]) ** 2 / line["ranks"]
    return compute * share + communication(line, latency, bandwidth)


def table(found, args):
    row = "{:>6} {:>9} {:>10} {:>8} {:>10} {:>10} {:>8} {:>14} {:>10}"
    for label, lines in found.items():
        print(label)
        print(row.format("ranks", "points", "seconds", "speed-up", "efficiency", "model", "Gpair/s", "bytes", "iterations"))
        for line in lines:
            s, modelled = speed_up(line, lines[0]), model(line, lines[0], args.latency, args.bandwidth)
            ideal = speed_up({"pairs_per_second": line["size"] ** 2 / modelled}, lines[0]) / line["ranks"]
            print(row.format(line["ranks"], line["size"], f"{line['seconds']:.4g}", f"{s:.2f}",
                             f"{100 * s / line['ranks']:.1f}%", f"{100 * ideal:.1f}%",
                             f"{line['pairs_per_second'] * 1e-9:.3f}", f"{line.get('bytes_communicated', 0):.0f}",
                             line.get("iterations", "-")))
        print()
    print("bytes: of one product, between all ranks; model: the efficiency it predicts, from "
          f"{args.latency * 1e6:g} us and {args.bandwidth * 1e-9:g} GB/s (--latency, --bandwidth)")


def draw(found, args):
    figure = matplotlib.figure.Figure(figsize=(11, 4.5), layout="constrained")
    time, efficiency = figure.subplots(1, 2)
    for i, (label, lines) in enumerate(found.items()):
        ranks, colour = [line["ranks"] for line in lines], style(i)["color"]
        seconds = [line["seconds"] for line in lines]
        modelled = [model(line, lines[0], args.latency, args.bandwidth) for line in lines]
        percent = [100 * speed_up(line, lines[0]) / line["ranks"] for line in lines]
        bars = spread(lines, seconds, lambda line: line.get("seconds_min", line["seconds"]),
                      lambda line: line.get("seconds_max", line["seconds"]))
        time.errorbar(ranks, seconds, bars, label=label, capsize=2, **style(i))
        time.plot(ranks, modelled, "--", lw=0.8, color=colour)
        efficiency.plot(ranks, percent, **style(i))
        efficiency.plot(ranks, [e * s / m for e, s, m in zip(percent, seconds, modelled)], "--", lw=0.8, color=colour)
    time.plot([], [], "k--", lw=0.8, label="model")
    time.set(xscale="log", yscale="log", xlabel="ranks", ylabel="seconds, median")
    efficiency.set(xscale="log", xlabel="ranks", ylabel="efficiency, % of the fewest ranks")
    efficiency.set_ylim(bottom=0)
    for ax in time, efficiency:
        plain_ticks(ax.xaxis, [line["ranks"] for lines in found.values() for line in lines])
    plain_ticks(time.yaxis)
    time.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8)
    figure.savefig(args.picture, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--latency", type=float, default=2e-6, help="seconds of a message (2e-6)")
    p.add_argument("--bandwidth", type=float, default=25e9, help="bytes a second of a link (25e9)")
    p.add_argument("lines", nargs="+")
    args = p.parse_args()
    args.picture = args.lines.pop() if args.lines[-1].endswith((".png", ".pdf", ".svg")) else None
    found = curves(read(args.lines))
    if not found:
        sys.exit("draw_scaling.py: no lines of gramarye bench")
    table(found, args)
    if args.picture and matplotlib:
        draw(found, args)
    elif args.picture:
        print("draw_scaling.py: no picture: no matplotlib in this Python", file=sys.stderr)
