#!/usr/bin/env python3
"""Draw what `gramarye solve` or `predict` wrote:  python3 jobs/draw_result.py RESULT.h5 PICTURE.png

One input gives the mean curve, two a map and the held-back errors, more the predicted against the true values; then
the residuals of an iteration. The map is RESULT_map.h5 when that lies beside RESULT.h5 and is not older, else the
targets when they form a grid, else the model evaluated here, which takes a few seconds.
"""
import math
import re
import sys
from pathlib import Path

import h5py
import matplotlib
import numpy as np
from matplotlib.figure import Figure

BLUE, GREY = "#20639b", "#8a8f98"
matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def matern(r, nu):
    p, t, y = round(nu - 0.5), math.sqrt(2 * nu) * r, 0
    for i in range(p + 1):
        y = 2 * t * y + math.comb(p, i) * math.factorial(p + i) / math.factorial(2 * p)
    return y * np.exp(-t)


PROFILES = {"gaussian": lambda r, nu: np.exp(-r * r / 2), "exponential": lambda r, nu: np.exp(-r), "matern": matern}


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def evaluate(f, t):
    """First column of the mean at t: value_shift + value_scale k(t', x') a, the products in float32."""
    scaling, kernel = f["scaling"], f["kernel"].attrs
    def scaled(p):
        if scaling.attrs.get("sphere", 0):
            lon, lat = np.radians(p).T
            p = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
        return (p - scaling["point_shift"][:]) / scaling["point_scale"][:] / kernel["length_scale"]

    x, t, a, mean = scaled(f["x"][:]), scaled(t), f["coefficients"][:, 0].astype("f4"), np.zeros(len(t))
    for rows in np.array_split(np.arange(len(t)), 1 + len(t) * len(x) // 2**18):  # blocks that stay in cache
        r2 = (t[rows] ** 2).sum(1)[:, None] + (x**2).sum(1) - 2 * t[rows] @ x.T
        mean[rows] = PROFILES[text(kernel["type"])](np.maximum(r2, 0).astype("f4") ** 0.5, kernel["nu"]) @ a
    return scaling["value_shift"][0] + scaling["value_scale"][0] * kernel["amplitude"] ** 2 * mean


def labels(f):
    """What the values are, and whether points are in degrees: from the data file, where it is still found."""
    keys = dict(re.findall(r"-(data_\w+) +(\S+)", text(f["run"].attrs.get("options", ""))))
    for folder in (Path(), *Path(f.filename).resolve().parents[:2]):
        if (folder / keys.get("data_file", "")).is_file():
            with h5py.File(folder / keys["data_file"], "r") as data:
                x, y = data[keys.get("data_points", "x")].attrs, data[keys.get("data_values", "y")].attrs
                name = ", ".join(text(y[k]) for k in ("long_name", "units") if k in y) or "value"
                return name, text(x.get("units")) == "degrees"
    return "value", False


def title(f):
    line, run = Path(f.filename).stem, f["run"].attrs
    if "kernel" in f:
        k, seconds = f["kernel"].attrs, sum(float(v) for name, v in run.items() if name.startswith("seconds"))
        nu = f" {2 * k['nu']:.0f}/2" if text(k["type"]) == "matern" else ""
        scales = " to ".join(f"{v:.3g}" for v in sorted({np.min(k["length_scale"]), np.max(k["length_scale"])}))
        line += f": {len(f['x'])} points, {text(k['type'])}{nu}, length scale {scales}, ridge {k['ridge_alpha']:.3g}\n"
        line += f"{run['iterations']} iterations" if run["iterations"] else "direct"
        line += f", relative residual {run['relative_residual']:.1e}, {seconds:.3g} s"
    return line


def as_grid(x, v):
    """Axes and values of a full grid, in whatever order its points come; None for scattered points."""
    u, w = np.unique(x[:, 0]), np.unique(x[:, 1])
    return (u, w, v[np.lexsort(x.T)].reshape(len(w), len(u))) if len(u) * len(w) == len(x) else None


def find_map(f, globe, target, model):
    beside = Path(re.sub(r"(\.h5)?$", "_map.h5", f.filename, count=1))
    if beside.is_file() and beside.stat().st_mtime >= Path(f.filename).stat().st_mtime:
        with h5py.File(beside, "r") as m:
            return m["target/x"][:], m["target/mean"][:, 0]
    if (target and as_grid(*target)) or not model:
        return target
    lower, upper = ((-180, -90), (180, 90)) if globe else (f["x"][:].min(0), f["x"][:].max(0))
    n = int(min(128, (6e8 / len(f["x"])) ** 0.5))  # in each direction: some 6e8 kernel values at most
    points = np.stack(np.meshgrid(*np.linspace(lower, upper, n).T), -1).reshape(-1, 2)
    return points, evaluate(f, points)


def draw_map(ax, x, v, label, degrees, extend="neither", **style):
    """v over the plane, or over the globe in a projection true to area: a surface on a grid, dots elsewhere."""
    globe, grid = ax.name == "mollweide", as_grid(x, v)
    points = [np.radians(p) if globe else p for p in (grid[:2] if grid else x.T)]
    if grid:
        drawn = ax.pcolormesh(*points, grid[2], shading="gouraud", rasterized=True, **style)
    else:
        drawn = ax.scatter(*points, c=v, s=np.clip(15000 / len(x), 0.4, 9), lw=0, rasterized=True, **style)
    if globe:
        ax.grid(lw=0.3, color=GREY)
        ax.set(xticklabels=[], yticklabels=[])
    else:
        ax.set_aspect(1 / np.cos(np.radians(x[:, 1].mean())) if degrees else 1)
        ax.set(xlabel="longitude, degrees" if degrees else "$x_1$", ylabel="latitude, degrees" if degrees else "$x_2$")
    ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.75, aspect=25, extend=extend)


def draw(f, figure):
    (label, degrees), x = labels(f), f["x" if "x" in f else "target/x"][:]
    target = (f["target/x"][:], f["target/mean"][:, 0]) if "target/mean" in f else None
    error = target[1] - f["target/values"][:].reshape(len(target[0]), -1)[:, 0] if "target/values" in f else None
    history = f["history/residual"][:] if "history/residual" in f else []
    sphere = bool("scaling" in f and f["scaling"].attrs.get("sphere", 0))
    globe = {"projection": "mollweide"} if sphere and np.ptp(x[:, 0]) > 300 else {}
    model = "coefficients" in f and "gradient_coefficients" not in f and not len(f.get("tail", ()))
    model = model and text(f["kernel"].attrs["type"]) in PROFILES  # then evaluate() works
    plane, side = x.shape[1] == 2, len(history) > 3 or error is not None
    cells = figure.add_gridspec(2, 5)
    ax = figure.add_subplot(cells[:, : 3 if side else 5], **globe)
    if plane:
        draw_map(ax, *find_map(f, globe, target, model), label, sphere or degrees)
    elif x.shape[1] == 1:
        if model:  # y is not in the file, but y = mean(x) + alpha a
            rows = slice(None, None, 1 + len(x) // 4000)
            ridge = f["kernel"].attrs["ridge_alpha"] * f["scaling/value_scale"][0] * f["coefficients"][rows, 0]
            ax.plot(x[rows], evaluate(f, x[rows]) + ridge, ".", ms=2, color=GREY, label="data")
        order = np.argsort(target[0][:, 0])
        ax.plot(target[0][order], target[1][order], color=BLUE, lw=2, label="prediction")
        ax.set(xlabel="x", ylabel=label)
        ax.legend(frameon=False)
    elif error is not None:
        ax.scatter(target[1] - error, target[1], s=4, lw=0, alpha=0.4, color=BLUE, rasterized=True)
        ax.axline((0, 0), slope=1, lw=0.8, color="k")
        ax.set(xlabel=f"true {label}", ylabel=f"predicted {label}", aspect="equal")
    if plane and error is not None:
        ax, top = figure.add_subplot(cells[0, 3:], **globe), np.percentile(abs(error), 98)
        colours = {"cmap": "coolwarm", "vmin": -top, "vmax": top, "extend": "both"}
        draw_map(ax, target[0], error, f"error of {label}", sphere or degrees, **colours)
    if side:
        ax = figure.add_subplot(cells[int(plane and error is not None) :, 3:])
    if len(history) > 3:
        ax.semilogy(history, color=BLUE)
        ax.set(xlabel="iteration", ylabel="relative residual")
    elif error is not None:
        ax.hist(error, 80, range=np.percentile(error, (0.5, 99.5)), color=BLUE)
        ax.set(xlabel=f"error of {label}", ylabel="test points")
    score = "" if error is None else f"; root mean square error {np.mean(error**2) ** 0.5:.4g} at {len(error)} points"
    figure.suptitle(title(f) + score)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: draw_result.py RESULT.h5 PICTURE.png")
    picture = Figure(figsize=(11, 4.6), layout="constrained")
    with h5py.File(sys.argv[1], "r") as result:
        draw(result, picture)
    picture.savefig(sys.argv[2], dpi=150)
