#!/usr/bin/env python3
"""Draw what `gramarye solve` or `predict` wrote:  python3 jobs/draw_result.py RESULT.h5 PICTURE.png

One input gives the mean curve, two a map and the errors, more the predicted against the true values. The map is that
of RESULT_map.h5 if not older, of targets without known values, or of the model evaluated here (a few seconds).
"""
import math
import re
import sys
from pathlib import Path

import h5py
import matplotlib.figure
import numpy as np

matplotlib.rcParams.update({"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False})


def matern(r, nu):
    p, u, y = round(nu - 0.5), 2 * math.sqrt(2 * nu) * r, 0
    for i in range(p + 1):
        y = y * u + math.comb(p, i) * math.factorial(p + i) / math.factorial(2 * p)
    return y * np.exp(u / -2)


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
    x, t = np.c_[x, (x**2).sum(1), np.ones(len(x))], np.c_[-2 * t, np.ones(len(t)), (t**2).sum(1)]  # r^2 = t'x
    for i in np.array_split(np.arange(len(t)), 1 + len(t) * len(x) // 2**16):  # blocks that stay in cache
        mean[i] = PROFILES[text(kernel["type"])](np.maximum(t[i] @ x.T, 0, dtype="f4") ** 0.5, float(kernel["nu"])) @ a
    return scaling["value_shift"][0] + scaling["value_scale"][0] * kernel["amplitude"] ** 2 * mean


def find_labels(f):
    """Name and unit of the values, and whether points are in degrees: from the data file, where it is still found."""
    keys = dict(re.findall(r"-(data_\w+) +(\S+)", text(f["run"].attrs.get("options", ""))))
    for folder in (Path(), *Path(f.filename).resolve().parents[:2]):
        if (folder / keys.get("data_file", "")).is_file():
            with h5py.File(folder / keys["data_file"], "r") as data:
                x, y = data[keys.get("data_points", "x")].attrs, data[keys.get("data_values", "y")].attrs
                return text(y.get("long_name", "value")), text(y.get("units", "")), text(x.get("units")) == "degrees"
    return "value", "", False


def find_title(f, error, unit):
    title, run = Path(f.filename).stem, f["run"].attrs
    if "kernel" in f:
        k = f["kernel"].attrs
        kind = text(k["type"]) + (f" {2 * k['nu']:.0f}/2" if text(k["type"]) == "matern" else "")
        steps = f"{run['iterations']} iterations" if run["iterations"] else "direct"
        residual = f"relative residual {run['relative_residual']:.1e}"
        title += f": {len(f['x'])} points, {kind} kernel, {steps}, {residual}, {run['seconds_total']:.3g} s"
    if error is not None:
        title += f"\nroot mean square error {np.mean(error**2) ** 0.5:.4g} {unit} at {len(error)} targets"
    return title.replace("  ", " ")


def find_map(f, globe, target, model):
    beside = Path(re.sub(r"(\.h5)?$", "_map.h5", f.filename, count=1))
    if beside.is_file() and beside.stat().st_mtime >= Path(f.filename).stat().st_mtime:
        with h5py.File(beside, "r") as m:
            return m["target/x"][:], m["target/mean"][:, 0]
    if not model or (target and "target/values" not in f):
        return target
    lower, upper = ((-180, -90), (180, 90)) if globe else (f["x"][:].min(0), f["x"][:].max(0))
    n = int(min(128, (6e8 / len(f["x"])) ** 0.5))  # in each direction: some 6e8 kernel values at most
    points = np.stack(np.meshgrid(*np.linspace(lower, upper, n).T), -1).reshape(-1, 2)
    return points, evaluate(f, points)


def draw_map(ax, x, v, degrees, title, **style):
    """v over the plane, or over the globe in a projection true to area: a surface on a grid, dots elsewhere."""
    turn, u, w = np.radians if ax.name == "mollweide" else np.asarray, np.unique(x[:, 0]), np.unique(x[:, 1])
    if len(u) * len(w) == len(x):  # a full grid, in whatever order its points come
        surface = v[np.lexsort(x.T)].reshape(len(w), len(u))
        drawn = ax.pcolormesh(turn(u), turn(w), surface, shading="gouraud", rasterized=True, **style)
    else:
        drawn = ax.scatter(*turn(x.T), c=v, s=np.clip(15000 / len(x), 2, 9), lw=0, rasterized=True, **style)
    if ax.name == "mollweide":
        ax.grid(lw=0.3, color="0.6")
        ax.set(xticklabels=[], yticklabels=[])
    else:
        ax.set_aspect(1 / np.cos(np.radians(x[:, 1].mean())) if degrees else 1)
        ax.set(xlabel="longitude, degrees" if degrees else "$x_1$", ylabel="latitude, degrees" if degrees else "$x_2$")
    ax.set_title(title)
    ax.figure.colorbar(drawn, ax=ax, shrink=0.8, aspect=25, extend="both" if style else "neither")


def draw(f, figure):
    (name, unit, degrees), d = find_labels(f), f["x" if "x" in f else "target/x"].shape[1]
    label, error_label = (f"{words}, {unit}" if unit else words for words in (name, "error at targets"))
    target = (f["target/x"][:], f["target/mean"][:, 0]) if "target/mean" in f else None
    error = target[1] - f["target/values"][:].reshape(len(target[0]), -1)[:, 0] if "target/values" in f else None
    history = f["history/residual"][:] if "history/residual" in f else []
    sphere = "scaling" in f and f["scaling"].attrs.get("sphere", 0)
    globe = {"projection": "mollweide"} if sphere and np.ptp(f["x"][:, 0]) > 300 else {}
    model = "coefficients" in f and "gradient_coefficients" not in f and not len(f.get("tail", ()))
    model = model and text(f["kernel"].attrs["type"]) in PROFILES  # evaluate() knows it
    if (error if d > 2 else target) is None and not (d == 2 and model):
        sys.exit("nothing to draw: no targets, or no known values of them")
    figure.suptitle(find_title(f, error, unit))
    cells, side = figure.add_gridspec(2, 5), error is not None or len(history) > 1
    ax = figure.add_subplot(cells[:, : 3 if side else 5], **globe)
    if d == 1:
        if model:  # y is not in the file, but y = mean(x) + alpha a
            rows = slice(None, None, 1 + len(f["x"]) // 4000)
            ridge = f["kernel"].attrs["ridge_alpha"] * f["scaling/value_scale"][0] * f["coefficients"][rows, 0]
            ax.plot(f["x"][rows], evaluate(f, f["x"][rows]) + ridge, ".", ms=2, color="0.6")
        ax.plot(*np.array(sorted(zip(target[0][:, 0], target[1]))).T, lw=2)
        ax.set(xlabel="x", title=f"predicted {label}" + ", and the data" * bool(model))
    elif d == 2:
        draw_map(ax, *find_map(f, globe, target, model), degrees or sphere, f"predicted {label}")
    else:
        ax.scatter(target[1] - error, target[1], s=4, lw=0, alpha=0.4, rasterized=True)
        ax.axline((0, 0), slope=1, lw=0.8, color="k")
        ax.set(title=f"predicted {label}", xlabel=f"true {label}", aspect="equal")
    if d == 2 and error is not None:
        ax, top = figure.add_subplot(cells[0, 3:], **globe), np.percentile(abs(error), 98)
        draw_map(ax, target[0], error, degrees or sphere, error_label, cmap="coolwarm", vmin=-top, vmax=top)
    rest = cells[1:, 3:] if d == 2 and error is not None else cells[:, 3:]
    if len(history) > 1:
        steps = "iteration" if f["run"].attrs["iterations"] else "0: zero, 1: factorisation, then refinements"
        ax = figure.add_subplot(rest, xlabel=steps, title="relative residual")
        ax.semilogy(history, marker="o" if len(history) < 20 else "")
        ax.xaxis.get_major_locator().set_params(integer=True)
    elif error is not None:
        ax = figure.add_subplot(rest, xlabel=error_label, title="number of targets")
        ax.hist(error, 80, range=np.percentile(error, (0.5, 99.5)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: draw_result.py RESULT.h5 PICTURE.png")
    picture = matplotlib.figure.Figure(figsize=(11, 5), layout="constrained")
    with h5py.File(sys.argv[1], "r") as result:
        draw(result, picture)
    picture.savefig(sys.argv[2], dpi=150, bbox_inches="tight")
