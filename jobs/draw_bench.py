#!/usr/bin/env python3
"""Draw what `gramarye bench` printed:  python3 jobs/draw_bench.py [--kind rate|scaling] [LINES ...] PICTURE

LINES are files that hold its JSON lines, standard input when there are none; lines that are not JSON are passed over.
rate: pairs a second against the number of points. scaling: time and efficiency against the number of ranks, drawn
unasked where ranks vary. PICTURE ends in .png, .pdf or .svg.
"""
import argparse
import collections
import fileinput
import json
import sys

try:
    import matplotlib.figure
    import matplotlib.ticker
except ImportError:
    print("draw_bench.py: no matplotlib in this Python", file=sys.stderr)
    sys.exit(2)

matplotlib.rcParams.update({"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False,
                            "axes.grid": True, "grid.color": "0.9", "legend.frameon": False})

# what tells one curve from another, in the order of a label
WORDS = {"kind": "{}", "kernel": "{}", "size": "{:,} points", "dim": "d = {}", "rhs": "{} columns", "precision": "{}",
         "symmetric": "{}", "backend": "{}", "simd": "{}", "method": "{}", "grid": "grid {}", "ranks": "{} ranks"}


def say(key, value):
    if key == "symmetric":
        return "pairs once" if value else "pairs twice"
    return WORDS[key].format(value).replace(",", " ").removesuffix("s" * (value == 1))


def read(paths):
    lines = []
    for text in fileinput.input(paths or ["-"]):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"kind", "size", "ranks", "seconds", "pairs_per_second"} <= line.keys():
            lines.append(line)
    return lines


def curves(lines, along):
    """Curves of lines that differ in along only, {label: lines}, and the words that all of them share."""
    keys = [key for key in WORDS if key != along]
    vary = [key for key in keys if len({line.get(key) for line in lines}) > 1]
    shared = [say(key, lines[0][key]) for key in keys if key in lines[0] and key not in vary]
    found = collections.defaultdict(dict)
    for line in lines:  # of equal cases the last counts
        label = ", ".join(say(key, line[key]) for key in vary if key in line)
        found[label][line[along]] = line
    return {label: [at[x] for x in sorted(at)] for label, at in found.items()}, ", ".join(shared)


def style(i):
    return {"color": f"C{i % 10}", "marker": "osD^vP*"[i % 7], "ms": 4, "lw": 1.2}


def plain_ticks(axis, values=None):
    """Plain numbers, at the values or at 1, 2, 5, 10, ..."""
    ticker = matplotlib.ticker
    number = lambda v, _: f"{v:,.0f}".replace(",", " ") if v >= 1 else f"{v:g}"
    axis.set_major_locator(ticker.FixedLocator(sorted(set(values))) if values else ticker.LogLocator(10, (1, 2, 5)))
    axis.set_major_formatter(ticker.FuncFormatter(number))
    axis.set_minor_locator(ticker.NullLocator())


def spread(lines, values, least, most):
    """Error bars from the fastest to the slowest repeat."""
    return [[v - least(line) for v, line in zip(values, lines)], [most(line) - v for v, line in zip(values, lines)]]


def draw_rate(figure, lines):
    found, shared = curves(lines, "size")
    ax = figure.subplots()
    for i, (label, at) in enumerate(found.items()):
        rate = lambda line, key="seconds": line["size"] ** 2 / line.get(key, line["seconds"]) * 1e-9
        rates = [rate(line) for line in at]
        bars = spread(at, rates, lambda line: rate(line, "seconds_max"), lambda line: rate(line, "seconds_min"))
        ax.errorbar([line["size"] for line in at], rates, bars, label=label, capsize=2, **style(i))
    ax.set(xscale="log", yscale="log", title=shared, xlabel="points N",
           ylabel="billion pairs a second, $N^2$ / median time")
    sizes = {line["size"] for line in lines}
    plain_ticks(ax.xaxis, sizes if len(sizes) < 8 else None)
    plain_ticks(ax.yaxis)
    if len(found) > 1:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def draw_scaling(figure, lines):
    found, shared = curves(lines, "ranks")
    time, efficiency = figure.subplots(1, 2)
    for i, (label, at) in enumerate(found.items()):
        ranks, seconds = [line["ranks"] for line in at], [line["seconds"] for line in at]
        work = ranks[0] * seconds[0]
        bars = spread(at, seconds, lambda line: line.get("seconds_min", line["seconds"]),
                      lambda line: line.get("seconds_max", line["seconds"]))
        time.errorbar(ranks, seconds, bars, label=label, capsize=2, **style(i))
        time.plot(ranks, [work / p for p in ranks], "--", lw=0.8, color=style(i)["color"])
        efficiency.plot(ranks, [100 * work / (p * s) for p, s in zip(ranks, seconds)], **style(i))
    efficiency.axhline(100, ls="--", lw=0.8, color="k")
    time.plot([], [], "k--", lw=0.8, label="ideal")
    time.set(xscale="log", yscale="log", xlabel="ranks", ylabel="seconds, median")
    efficiency.set(xscale="log", xlabel="ranks", ylabel="efficiency, % of the fewest ranks")
    efficiency.set_ylim(bottom=0)
    for ax in time, efficiency:
        plain_ticks(ax.xaxis, [line["ranks"] for line in lines])
    plain_ticks(time.yaxis)
    figure.suptitle(shared, fontsize=10)
    efficiency.legend(*time.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1, 0.5))


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kind", choices=["rate", "scaling"])
    p.add_argument("lines", nargs="*")
    p.add_argument("picture")
    args = p.parse_args()
    cases = read(args.lines)
    if not cases:
        sys.exit("draw_bench.py: no lines of gramarye bench")
    kind = args.kind or ("scaling" if len({line["ranks"] for line in cases}) > 1 else "rate")
    picture = matplotlib.figure.Figure(figsize=(11, 4.5) if kind == "scaling" else (9, 4.5), layout="constrained")
    (draw_scaling if kind == "scaling" else draw_rate)(picture, cases)
    picture.savefig(args.picture, dpi=150, bbox_inches="tight")
