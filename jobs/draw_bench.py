#!/usr/bin/env python3
"""Draw what `gramarye bench` printed:  python3 jobs/draw_bench.py [LINES ...] PICTURE

Pairs a second against the number of points; jobs/draw_scaling.py draws time and efficiency against that of ranks. LINES
are files that hold its JSON lines, standard input when there are none; lines that are not JSON are passed over. PICTURE
ends in .png, .pdf or .svg.
"""
import argparse
import collections
import fileinput
import json
import sys

try:
    import matplotlib.figure
    import matplotlib.ticker

    matplotlib.rcParams.update({"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.grid": True,
                                "axes.spines.right": False, "grid.color": "0.9", "legend.frameon": False})
except ImportError:
    matplotlib = None  # draw_scaling.py has a table too

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


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("lines", nargs="*")
    p.add_argument("picture")
    args = p.parse_args()
    if not matplotlib:
        print("draw_bench.py: no matplotlib in this Python", file=sys.stderr)
        sys.exit(2)
    cases = read(args.lines)
    if not cases:
        sys.exit("draw_bench.py: no lines of gramarye bench")
    picture = matplotlib.figure.Figure(figsize=(9, 4.5), layout="constrained")
    draw_rate(picture, cases)
    picture.savefig(args.picture, dpi=150, bbox_inches="tight")
