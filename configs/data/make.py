#!/usr/bin/env python3
"""Make the data files of the configs:  configs/data/make.py SHARED_DATA_DIR [FOLDER = this one]

SHARED_DATA_DIR holds egm96_geoid.h5, satellite_lst.h5 and protein.h5; the tutorial problems are computed.
README.md beside this file says what each file contains, where it comes from and under which licence.
"""
import pathlib
import sys

import h5py
import numpy as np


def write(path, about, labels, **datasets):
    """One file: root attributes `about`, and long_name and units of every dataset named in `labels`."""
    with h5py.File(path, "w", libver=("earliest", "v108")) as f:
        f.attrs.update(about)
        for name, a in datasets.items():
            f.create_dataset(name, data=a, compression="gzip", compression_opts=9, shuffle=True)
            for key, text in zip(("long_name", "units"), labels.get(name, ())):
                f[name].attrs[key] = text
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def float32(*arrays):
    return (a.astype(np.float32) for a in arrays)


def geoid(shared, folder):
    with h5py.File(shared / "egm96_geoid.h5") as f:
        x, y = f["x"][:], f["y"][:]
        train = f["train_order"][:24000]  # every prefix is a sample uniform in area
        test = f["test_index"][::4]       # sorted from pole to pole: a stride keeps it uniform
        about = {k: f.attrs[k] for k in ("source", "licence")}
    (x,) = float32(x)  # exact: multiples of 1/4 degree
    place, height = ("longitude, latitude", "degrees"), ("geoid height", "m")
    write(folder / "geoid.h5", about, {"x": place, "y": height, "x_test": place, "y_test": height},
          x=x[train], y=y[train], x_test=x[test], y_test=y[test])


def satellite(shared, folder):
    with h5py.File(shared / "satellite_lst.h5") as f:
        x, y, x_test, y_test = (f[k][:] for k in ("x", "y", "x_test", "y_test"))
        about = {k: f.attrs[k] for k in ("source", "licence")}
    x, y, x_test, y_test = float32(x, y, x_test, y_test)  # off by 4e-6 degrees and 2e-6 degrees C at most
    random = np.random.RandomState(0)  # its stream never changes
    train, test = random.permutation(len(x)), random.permutation(len(x_test))  # so that prefixes are samples
    place, heat = ("longitude, latitude", "degrees"), ("land surface temperature", "\N{DEGREE SIGN}C")
    write(folder / "satellite.h5", about, {"x": place, "y": heat, "x_test": place, "y_test": heat},
          x=x[train], y=y[train], x_test=x_test[test], y_test=y_test[test])


def protein(shared, folder):
    with h5py.File(shared / "protein.h5") as f:
        x, y, held_back = f["x"][:], f["y"][:], f["test_mask"][:, 0] == 1  # fold 0 of 10
        about = {k: f.attrs[k] for k in ("source", "licence")}
    x, y = float32(x, y)  # the source has 5 digits
    train, test = (np.flatnonzero(rows).astype(np.int32) for rows in (~held_back, held_back))
    write(folder / "protein.h5", about, {"y": ("rescaled residual size",)},
          x=x, y=y, train=train, test=test)


def halton(n, d):
    """Points 1..n: coordinate k is the radical inverse in the k-th prime, one correctly rounded quotient."""
    x = np.empty((n, d))
    for k, base in enumerate((2, 3, 5, 7, 11)[:d]):
        i, reverse, power = np.arange(1, n + 1), np.zeros(n, int), np.ones(n, int)
        while i.any():
            rest = i > 0
            reverse[rest] = reverse[rest] * base + i[rest] % base
            power[rest] *= base
            i //= base
        x[:, k] = reverse / power
    return x


def noise(n):
    """Deterministic and uniform, mean 0 and variance 1."""
    return np.sqrt(12) * (np.arange(1, n + 1) * 0.6180339887498949 % 1 - 0.5)


def tutorials(folder, n=10000):
    about = {"source": "kernel interpolation tutorial of KeOps, on Halton points and with fixed noise",
             "licence": "computed, under the licence of this repository"}

    def curve(x):
        return x + 0.5 * np.sin(6 * x) + 0.1 * np.sin(20 * x)

    x, t, e = halton(n, 1), np.linspace(0, 1, 1001)[:, None], noise(n)
    write(folder / "tutorial_1d.h5", about, {}, x=x, y=curve(x[:, 0]) + 0.05 * e, t=t, y_t=curve(t[:, 0]))

    x = halton(n, 2)
    r2 = ((x - 0.5) ** 2).sum(1)
    y = ((0.09 <= r2) & (r2 <= 0.16)) + 0.05 * e  # a ring
    y[-n // 4:] = e[-n // 4:] / np.sqrt(12) + 0.5  # a quarter of the values are noise alone
    write(folder / "tutorial_2d.h5", about, {}, x=x, y=y)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__.splitlines()[0])
    shared = pathlib.Path(sys.argv[1])
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(__file__).resolve().parent
    geoid(shared, folder)
    satellite(shared, folder)
    protein(shared, folder)
    tutorials(folder)
