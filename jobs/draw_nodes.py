#!/usr/bin/env python3
"""Draw what `gramarye nodes` or `weights` wrote:  python3 jobs/draw_nodes.py RESULT.h5 [RESULT.h5 ...] PICTURE

A row each: the nodes, coloured by weight (three coordinates in perspective, more by the first two), and how they came
about: moves, gradients and energy of the sweeps, or the error after each node of sbq; else the weights, sorted. PICTURE
ends in .png, .pdf or .svg.
"""
import sys
from pathlib import Path

import h5py
import matplotlib.colors
import matplotlib.figure
import numpy as np

matplotlib.rcParams.update({"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False})


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def scatter(ax, x, w, top, size=None):
    """Nodes by N w_i, what the mean node has being 1; hollow where negative. Returns what a colour bar is of."""
    v = len(w) * w
    size = size or np.clip(12000 / len(x), 0.3, 30)
    if np.ptp(v) <= 1e-9:
        ax.scatter(*x.T, s=size, lw=0, color="C0", rasterized=True)
        return None
    style = {"norm": matplotlib.colors.Normalize(0, top), "cmap": "viridis_r", "rasterized": True}
    drawn = ax.scatter(*x[v >= 0].T, c=v[v >= 0], s=size, lw=0, **style)
    if (v < 0).any():
        ax.scatter(*x[v < 0].T, s=size, facecolors="none", edgecolors="crimson", lw=0.7, rasterized=True)
    return drawn


def most(w):
    """Where colours end: almost all weights are below."""
    return max(np.percentile(len(w) * w, 98), 1e-3)


def frame(ax, x):
    """Coordinates of a plane or of space, to scale."""
    ax.set(**{f"{a}label": f"$x_{k + 1}$" for k, a in enumerate("xyz"[: x.shape[1]])})
    if x.shape[1] > 2:
        ax.set_box_aspect(np.ptp(x, axis=0))
        ax.view_init(22, -60)
    else:
        ax.set_aspect("equal")


def title(f):
    run, kernel = f["run"].attrs, f["kernel"].attrs
    words = f"{text(kernel['type'])}" + (f" {2 * kernel['nu']:.0f}/2" if text(kernel["type"]) == "matern" else "")
    made = f"{text(run['method'])}, {run['sweeps']} sweeps" if run.get("sweeps") else text(run["method"])
    state = "" if run["converged"] else f", not converged ({text(run['reason'])})"
    n, d = f["x"].shape
    return (f"{Path(f.filename).stem}: {n} nodes in {d} coordinate{'s' * (d > 1)}, {made}{state}, {words} kernel\n"
            f"worst-case error {abs(f.attrs['wce_squared']) ** 0.5:.3g}, with equal weights "
            f"{abs(f.attrs['wce_squared_equal']) ** 0.5:.3g}; {f.attrs['weights_negative']:.0f} negative weights")


def draw_history(f, figure, cells):
    moves, gradient, energy = (f[f"history/{key}"][:] for key in ("move", "max_gradient", "energy"))
    sweep = np.arange(1, len(energy) + 1)
    top = figure.add_subplot(cells[0], title="convergence", yscale="log")
    bottom = figure.add_subplot(cells[1], xlabel="sweep", sharex=top, title="energy above the least", yscale="log")
    moved = bool(np.isfinite(moves).any() and np.nanmax(moves) > 0)
    style = {"marker": "o", "ms": 3} if len(sweep) < 70 else {}
    if moved:
        top.plot(sweep, moves, label="rms move in spacings", **style)
    top.plot(sweep, gradient, label="largest gradient", lw=1, color="C1")
    above = energy - energy.min()
    bottom.plot(sweep[above > 0], above[above > 0], color="C2", **style)
    top.legend(frameon=False)
    top.tick_params(labelbottom=False)
    if len(sweep) > 200:
        bottom.set_xscale("log")
    else:
        bottom.xaxis.get_major_locator().set_params(integer=True)


def draw(f, figure, cells):
    x, w, d = f["x"][:], f["weights"][:], f["x"].shape[1]
    figure.suptitle(title(f))
    left = figure.add_subplot(cells[:, :2], **({"projection": "3d"} if d == 3 else {}))
    if d == 1:
        left.stem(x[:, 0], len(w) * w, markerfmt=".", basefmt="k-")
        left.set(xlabel="$x_1$", title="weights times the number of nodes")
    else:
        drawn = scatter(left, x[:, :3] if d == 3 else x[:, :2], w, most(w))
        frame(left, x if d < 4 else x[:, :2])
        equal = "all weights are 1 / N"
        left.set_title(equal if drawn is None else "weights times N" + ", hollow: negative" * bool((w < 0).any()))
        if drawn is not None:
            figure.colorbar(drawn, ax=left, shrink=0.8, aspect=25, extend="max", pad=0.1 if d == 3 else 0.03)
    if len(f.get("history/energy", ())):
        draw_history(f, figure, (cells[0, 2:], cells[1, 2:]))
    elif len(f.get("history/wce_squared", ())):
        error = f["history/wce_squared"][:]
        ax = figure.add_subplot(cells[:, 2:], xlabel="nodes", title="worst-case error after each node", yscale="log")
        good = error > 0  # a difference of doubles, which may end in rounding
        ax.plot(np.arange(1, len(error) + 1)[good], error[good] ** 0.5)
    else:
        ax = figure.add_subplot(cells[:, 2:], xlabel="nodes", title="weights times N, sorted")
        ax.plot(np.arange(1, len(w) + 1), len(w) * np.sort(w))
        ax.axhline(0, lw=0.8, color="k")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: draw_nodes.py RESULT.h5 [RESULT.h5 ...] PICTURE")
    results = sys.argv[1:-1]
    picture = matplotlib.figure.Figure(figsize=(11, 5 * len(results)), layout="constrained")
    rows = np.atleast_1d(picture.subfigures(len(results), 1))
    for path, row in zip(results, rows):
        with h5py.File(path, "r") as result:
            draw(result, row, row.add_gridspec(2, 4))
    picture.savefig(sys.argv[-1], dpi=150, bbox_inches="tight")
