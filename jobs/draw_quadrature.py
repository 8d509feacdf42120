#!/usr/bin/env python3
"""Figures and tables of what jobs/quadrature_figures.sh ran:  python3 jobs/draw_quadrature.py FOLDER

FOLDER/runs holds the results and runs.txt, a line each: panel, method, coordinates, nodes, start, exit code. With
--legendre DIM SIZE FILE.h5 it writes the nodes of a tensor rule for that script instead.
"""
import collections
import csv
import math
import sys
import textwrap
from pathlib import Path

import h5py
import matplotlib.figure
import numpy as np

from draw_bench import plain_ticks
from draw_nodes import frame, scatter

matplotlib.rcParams.update({"axes.grid": True, "grid.color": "0.9", "legend.frameon": False})

# method: label, short label, colour, marker
METHODS = {
    "sweep": ("this program's sweep", "sweep", "C0", "o"),
    "sweep_equal": ("this program's sweep", "sweep", "C0", "o"),
    "pwgd": ("PWGD as published", "PWGD", "C3", "s"),
    "m2": ("M2: descent on the error", "M2", "C4", "D"),
    "sbq": ("SBQ", "SBQ", "C2", "^"),
    "pgreedy": ("P-greedy", "P-greedy", "C8", "v"),
    "halton": ("Halton", "Halton", "C1", "P"),
    "sobol": ("Sobol, shifted", "Sobol", "C9", "X"),
    "sobol_nets": ("Sobol, shifted, N = 2^m", "Sobol 2^m", "C5", "X"),
    "legendre": ("Gauss-Legendre, tensor", "Legendre", "C6", "*"),
    "random": ("random", "random", "0.5", "."),
}
SHOWN = ("sweep", "pwgd", "m2", "sbq", "pgreedy", "halton", "sobol", "random")  # as nodes

Run = collections.namedtuple("Run", "panel method dim size start code length_scale wce_squared wce_squared_equal rounding "
                             "least_weight negative sweeps seconds")


def write_legendre(dim, size, path):
    m = round(size ** (1 / dim))
    if m**dim != size:
        sys.exit(f"draw_quadrature.py: {size} is no power of {dim}")
    t = (np.polynomial.legendre.leggauss(m)[0] + 1) / 2
    with h5py.File(path, "w") as f:
        f["x"] = np.stack(np.meshgrid(*[t] * dim, indexing="ij"), -1).reshape(-1, dim)


# ---- what was run


def name_of(run):
    return f"{run.panel}-{run.method}-{run.dim}-{run.size}-{run.start}.h5"


def read(folder):
    runs = []
    for line in (folder / "runs" / "runs.txt").read_text().splitlines():
        panel, method, *numbers = line.split()
        dim, size, start, code = map(int, numbers)
        with h5py.File(folder / "runs" / f"{panel}-{method}-{dim}-{size}-{start}.h5", "r") as f:
            a, run = f.attrs, f["run"].attrs
            runs.append(Run(panel, method, dim, size, start, code, f["kernel"].attrs["length_scale"], a["wce_squared"],
                            a["wce_squared_equal"], a["wce_squared_error"], a["weights_least"], int(a["weights_negative"]),
                            int(run.get("sweeps", 0)), run["seconds_total"]))
    return sorted(runs, key=lambda r: (r.panel, r.dim, list(METHODS).index(r.method), r.size, r.start))


def error(run, equal=False):
    """Worst-case error; no less than what rounding leaves of its square."""
    return max(run.wce_squared_equal if equal else run.wce_squared, run.rounding) ** 0.5


def curves(runs, panel, dim, equal=False):
    """{method: {size: runs}}; the sweep of equal weights is another one, its background ends at the walls."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for run in runs:
        if (run.panel, run.dim) == (panel, dim) and run.method != ("sweep" if equal else "sweep_equal"):
            if not (equal and run.method in ("sbq", "pgreedy", "legendre")):
                found[run.method][run.size].append(run)
    return found


def median(runs, equal=False):
    return float(np.median([error(run, equal) for run in runs]))


# ---- tables


def write_csv(runs, path):
    with open(path, "w", newline="") as f:
        rows = csv.writer(f, lineterminator="\n")
        rows.writerow(Run._fields)
        rows.writerows(runs)


def tables(runs):
    """Medians over the starts, a row for each number of nodes; * where most runs did not converge."""
    for panel, equal in ("paper", False), ("paper", True), ("large", False), ("large", True):
        for dim in 2, 3:
            found = curves(runs, panel, dim, equal)
            if not found:
                continue
            weights = "equal" if equal else "optimal"
            yield f"worst-case error, {dim} coordinates, {panel} sizes, {weights} weights\n"
            yield "nodes  " + "".join(f"{METHODS[m][1]:>11}" for m in found) + "\n"
            for size in sorted({size for at in found.values() for size in at}):
                cells = []
                for at in found.values():
                    mark = "*" if size in at and sum(r.code == 3 for r in at[size]) * 2 > len(at[size]) else " "
                    cells.append(f"{median(at[size], equal):10.3g}{mark}" if size in at else " " * 11)
                yield f"{size:<7}{''.join(cells)}\n"
            yield "\n"


# ---- captions: numbers are of the runs


def starts_words(runs, panel):
    n = max((r.start for r in runs if r.panel == panel), default=1)
    if n == 1:
        return "Single starts."
    return (f"Medians of {n} starts (random points; digital shifts of Sobol), bands from the least to the largest; Halton, "
            "SBQ, P-greedy and tensor rules have one.")


def winners(runs, panel, equal=False):
    """Who is below the sweep, and where; between its sizes the sweep is interpolated."""
    said = []
    for dim in 2, 3:
        found, better = curves(runs, panel, dim, equal), []
        ours = sorted((size, median(at, equal)) for size, at in found["sweep_equal" if equal else "sweep"].items())
        for method, at in found.items():
            sizes = [size for size in sorted(at) if not method.startswith("sweep")
                     and math.log(median(at[size], equal)) < np.interp(math.log(size), *np.log(ours).T)]
            if sizes:
                better.append(f"{METHODS[method][1]} at N = {', '.join(map(str, sizes))}")
        said.append(f"in {dim}D {' and '.join(better) if better else 'nothing'}")
    return f"Below the sweep with {'equal' if equal else 'optimal'} weights: {'; '.join(said)}."


def bounded(runs, panel):
    """Where the rounding error of double is what is seen, not the rule's."""
    found = collections.defaultdict(set)
    for r in runs:
        if r.panel == panel and r.method != "sweep_equal" and r.wce_squared < 10 * r.rounding:
            found[METHODS[r.method][1], r.dim].add(r.size)
    return "; ".join(f"{name} in {dim}D at N = {', '.join(map(str, sorted(sizes)))}" for (name, dim), sizes in found.items())


def unconverged(runs, method, dim):
    at = [r for r in runs if (r.panel, r.method, r.dim) == ("paper", method, dim)]
    missed = [r for r in at if r.code == 3]
    sizes = sorted({r.size for r in missed})
    return f"{len(missed)} of {len(at)} in {dim}D" + f" (N = {', '.join(map(str, sizes))})" * bool(missed)


def captions(runs):
    nodes = ("Nodes of the first start, coloured by weight times N, hollow where the weight is negative; worst-case error of "
             "exp(-|x - z|^2) with optimal weights. PWGD and M2 are run with the parameters of their authors.")
    ends = "; ".join(f"{METHODS[m][1]} {', '.join(unconverged(runs, m, dim) for dim in (2, 3))}" for m in ("pwgd", "m2", "sweep"))
    paper = ("Kernel exp(-|x - z|^2). " + starts_words(runs, "paper") + " PWGD and M2 with the parameters of their authors, "
             f"hollow where most starts did not reach their tolerance (exit code 3). Starts that did not: {ends}. In 2D nodes of "
             "PWGD that meet a wall stay there, so that its gradient's tolerance is never reached; in 3D its step is too long "
             "for 40 nodes and fewer, which jump from wall to wall. M2 would need some thousand sweeps more in 2D; with equal "
             "weights it descends on the error itself, and the sweep has no gap at the walls. " + " ".join(winners(runs, "paper", equal) for equal in (False, True)))
    doubtful = bounded(runs, "large")
    large = ("Kernel exp(-a^2 |x - z|^2) with a h = 0.35 in 2D and 0.5 in 3D, h = N^(-1/d): another kernel for every N, as "
             "narrow as the nodes resolve. Optimal weights with ridge 1e-13. " + starts_words(runs, "large") + " SBQ and "
             "P-greedy have some 10 N candidates. "
             + f"Rounding, whose bound is drawn where it is larger, is seen in {doubtful}. " * bool(doubtful)
             + "A smooth product kernel on a box is what tensor rules are made for: in 2D take them where N may be a square. For "
             "product kernels of finite smoothness, which this program does not have, low-discrepancy sequences are better than "
             "the sweep. " + " ".join(winners(runs, "large", equal) for equal in (False, True)))
    return {"nodes_2d": nodes, "nodes_3d": nodes, "error_paper": paper, "error_large": large}


# ---- figures


def save(figure, path, caption):
    width = int(figure.get_figwidth() * 15.5)
    figure.text(0.01, -0.01, textwrap.fill(caption, width), va="top", fontsize=8.5)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


def draw_nodes(runs, folder, dim, path, caption):
    """Those of the largest size that all methods have."""
    at = {(r.method, r.size): r for r in reversed(runs) if r.panel == "paper" and r.dim == dim}
    size = max(size for method, size in at if method == "sweep")
    flat = dim == 2  # constrained layout does not know how large a cube is
    figure = matplotlib.figure.Figure(figsize=(12, 6.6 if flat else 7.2), layout="constrained" if flat else None)
    axes = figure.subplots(2, 4, subplot_kw={} if flat else {"projection": "3d"})
    for ax, method in zip(axes.flat, SHOWN):
        run = at[method, size]
        with h5py.File(folder / "runs" / name_of(run), "r") as f:
            x, w = f["x"][:], f["weights"][:]
        drawn = scatter(ax, x, w, 3, 26)
        frame(ax, x)
        ax.set(**{f"{a}lim": (-0.03, 1.03) for a in "xyz"[:dim]}, **{f"{a}ticks": (0, 0.5, 1) for a in "xyz"[:dim]})
        ax.grid(not flat)
        if flat:
            ax.label_outer()
        else:
            ax.set(**{f"{a}ticklabels": () for a in "xyz"}, **{f"{a}label": "" for a in "xyz"})
            ax.set_box_aspect((1, 1, 1), zoom=1.1)
        missed = ", not converged" * (run.code == 3)
        ax.set_title(f"{METHODS[method][0]}\nerror {error(run):.2g}{missed}")
    figure.suptitle(f"{size} nodes in the unit {'square' if flat else 'cube'}")
    place = {"ax": axes, "shrink": 0.6, "pad": 0.01} if flat else {"cax": figure.add_axes((0.95, 0.2, 0.01, 0.55))}
    if not flat:
        place["cax"].grid(False)
    figure.colorbar(drawn, aspect=30, extend="max", label="weight times N", **place)
    if not flat:
        figure.subplots_adjust(0, 0, 0.93, 0.88, 0, 0.16)
    save(figure, path, caption)


def draw_curves(ax, found, equal=False):
    for method, at in found.items():
        label, _, colour, marker = METHODS[method]
        sizes = sorted(at)
        ends = np.array([[f(error(r, equal) for r in at[s]) for f in (min, max)] for s in sizes]).T
        hollow = [sum(r.code == 3 for r in at[s]) * 2 > len(at[s]) for s in sizes]
        y = [median(at[s], equal) for s in sizes]
        front = {"lw": 2, "zorder": 4} if method.startswith("sweep") else {"lw": 1}
        ax.plot(sizes, y, color=colour, **front)
        ax.fill_between(sizes, *ends, color=colour, alpha=0.12, lw=0)
        for open_, face in (False, colour), (True, "white"):
            pick = [i for i, h in enumerate(hollow) if h == open_]
            ax.plot(np.take(sizes, pick), np.take(y, pick), ls="", marker=marker, ms=6 if marker != "*" else 8, color=colour,
                    mfc=face, zorder=front.get("zorder", 2) + 1)
        ax.plot([], [], color=colour, marker=marker, label=label, **front)


def draw_errors(runs, panel, path, caption):
    figure = matplotlib.figure.Figure(figsize=(12, 9.2), layout="constrained")
    for row, equal in zip(figure.subplots(2, 2), (False, True)):
        for ax, dim in zip(row, (2, 3)):
            draw_curves(ax, curves(runs, panel, dim, equal), equal)
            ax.set(yscale="log", xlabel="nodes N", ylabel="worst-case error",
                   title=f"{'unit square' if dim == 2 else 'unit cube'}, {'equal' if equal else 'optimal'} weights")
            if panel == "large":
                ax.set_xscale("log")
                ax.set_xlim(85, 4900)
                plain_ticks(ax.xaxis, (100, 250, 500, 1000, 2000, 4000))
        handles, labels = row[0].get_legend_handles_labels()
        row[1].legend(handles, labels, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path, caption)


def main(folder):
    runs = read(folder)
    write_csv(runs, folder / "table.csv")
    table = "".join(tables(runs)) + "*: most starts did not reach their tolerance, exit code 3\n"
    (folder / "table.txt").write_text(table)
    said = captions(runs)
    (folder / "captions.txt").write_text("".join(f"{name}.png\n{textwrap.fill(words, 110)}\n\n" for name, words in said.items()))
    for dim in 2, 3:
        draw_nodes(runs, folder, dim, folder / f"nodes_{dim}d.png", said[f"nodes_{dim}d"])
    for panel in "paper", "large":
        draw_errors(runs, panel, folder / f"error_{panel}.png", said[f"error_{panel}"])
    print(table, end="")


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "--legendre":
        write_legendre(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    elif len(sys.argv) == 2:
        main(Path(sys.argv[1]))
    else:
        sys.exit("usage: draw_quadrature.py FOLDER")
