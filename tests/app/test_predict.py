"""Variances, means and their gradients at targets against dense solves in extended precision, of the formulas of
DESIGN.md; and that targets come and go in chunks."""
import os

import h5py
import numpy as np

import gramarye as g

LONG = np.longdouble
CONFIGS = os.path.join(g.ROOT, "configs", "data")


# ---- dense mathematics: phi with its derivatives, blocks of values and gradients, polynomials

def jet(kernel, r):
    """phi, phi'/r and (phi'/r)'/r."""
    if kernel == "gaussian": e = np.exp(-r * r / 2); return e, -e, e
    if kernel == "exponential": return np.exp(-r), None, None
    if kernel == "matern32": e = np.exp(-np.sqrt(LONG(3)) * r); return (1 + np.sqrt(LONG(3)) * r) * e, -3 * e, None
    if kernel == "matern52":
        t = np.sqrt(LONG(5)) * r
        return (1 + t + t * t / 3) * np.exp(-t), -(1 + t) * np.exp(-t) * 5 / 3, np.exp(-t) * 25 / 3
    if kernel == "cubic": return r ** 3, 3 * r, 3 / np.where(r > 0, r, np.inf)
    raise KeyError(kernel)


def block(x, z, kernel, length, rows=False, cols=False):
    """k(x, z); rows, cols: with the gradient in x, in z, behind each value."""
    length = np.broadcast_to(np.asarray(length, LONG), x.shape[1])
    (n, d), m = x.shape, len(z)
    u = (x[:, None, :] - z) / length
    j = jet(kernel, np.sqrt((u ** 2).sum(2)))
    k = np.zeros((n, 1 + d if rows else 1, m, 1 + d if cols else 1), LONG)
    k[:, 0, :, 0] = j[0]
    if rows: k[:, 1:, :, 0] = (j[1][..., None] * u / length).transpose(0, 2, 1)
    if cols: k[:, 0, :, 1:] = -j[1][..., None] * u / length
    if rows and cols:
        both = -(j[1][..., None, None] * np.eye(d) + j[2][..., None, None] * u[..., :, None] * u[..., None, :])
        k[:, 1:, :, 1:] = (both / length[:, None] / length).transpose(0, 2, 1, 3)
    return k.reshape(n * k.shape[1], m * k.shape[3])


def polynomial(x, degree, gradients=False):
    """1, x_1 ... x_d, x_i x_j for i <= j; with gradients their derivatives behind them."""
    n, d = x.shape
    one, eye = np.ones((n, 1), LONG), np.eye(d)
    columns = [] if degree < 0 else [(one[:, 0], np.zeros((n, d), LONG))]
    columns += [(x[:, i], np.tile(eye[i], (n, 1))) for i in range(d) if degree >= 1]
    columns += [(x[:, i] * x[:, j], x[:, i:i + 1] * eye[j] + x[:, j:j + 1] * eye[i])
                for i in range(d) for j in range(i, d) if degree >= 2]
    p = np.zeros((n, 1 + d if gradients else 1, len(columns)), LONG)
    for c, (value, gradient) in enumerate(columns):
        p[:, 0, c] = value
        if gradients: p[:, 1:, c] = gradient
    return p.reshape(n * p.shape[1], len(columns))


def solved(S, b):
    """S^-1 b to the accuracy of residuals in extended precision, where S allows it."""
    inverse = np.linalg.inv(S.astype(float))
    x = (inverse @ b.astype(float)).astype(LONG)
    for _ in range(6):
        x += inverse @ (b - S @ x).astype(float)
    return x


class Dense:
    """The system of a model file and its predictions, in original units."""

    def __init__(self, m, y, dy=None):
        self.m, self.kernel, self.length = m, m["kernel@type"], m["kernel@length_scale"]
        if self.kernel == "matern": self.kernel = f"matern{round(2 * m['kernel@nu'])}2"
        self.gradients, self.degree = dy is not None, int(m["kernel@tail_degree"])
        self.x = self.standard(m["x"])
        n, d = self.x.shape
        scale = m["scaling/value_scale"]
        b = ((np.reshape(y, (n, -1)) - m["scaling/value_shift"]) / scale)
        if self.gradients:
            b = np.hstack([b, dy * m["scaling/point_scale"] / scale]).reshape(-1, 1)
        alphas = [m["kernel@ridge_alpha"]] + [m["kernel@ridge_alpha_gradient"]] * (d if self.gradients else 0)
        s2 = LONG(m["kernel@amplitude"]) ** 2
        A = s2 * block(self.x, self.x, self.kernel, self.length, self.gradients, self.gradients)
        A += np.diag(np.tile(alphas, n))
        P = polynomial(self.x, self.degree, self.gradients)
        self.S = np.block([[A, P], [P.T, np.zeros((P.shape[1],) * 2, LONG)]])
        self.c = solved(self.S, np.vstack([b, np.zeros((P.shape[1], b.shape[1]))]).astype(LONG))

    def standard(self, x):
        if self.m["scaling@sphere"]:
            lon, lat = np.radians(x.astype(LONG)).T
            x = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
        return (x.astype(LONG) - self.m["scaling/point_shift"]) / self.m["scaling/point_scale"]

    def at(self, t, gradient=False):
        """[k*; p*] of targets, with their gradients in t where asked for"""
        u = self.standard(t)
        k = LONG(self.m["kernel@amplitude"]) ** 2 * block(self.x, u, self.kernel, self.length, self.gradients, gradient)
        return np.vstack([k, polynomial(u, self.degree, gradient).T])

    def mean(self, t):
        return self.m["scaling/value_shift"] + self.m["scaling/value_scale"] * (self.at(t).T @ self.c)

    def gradient(self, t):
        """(M, d, q)"""
        values = (self.at(t, True).T @ self.c).reshape(len(t), -1, self.c.shape[1])[:, 1:]
        return values * self.m["scaling/value_scale"] / self.m["scaling/point_scale"][:, None]

    def variance(self, t):
        """of one unit of value_scale; and eps times what it is the difference of, where rounding in double begins"""
        k = self.at(t)
        x = solved(self.S, k)
        k_tt = LONG(self.m["kernel@amplitude"]) ** 2 * jet(self.kernel, LONG(0))[0]
        v = k_tt - (2 * (k * x).sum(0) - (x * (self.S @ x)).sum(0))
        terms = k_tt + (np.abs(x) * (np.abs(self.S) @ np.abs(x))).sum(0) + np.abs(k).max(0) * np.abs(x).sum(0)
        return v, g.EPS * terms


# ---- runs

def run(args, folder, what, verb, config, ranks=1, codes=(0,)):
    result = g.run(args.program, verb, dict(config, output=dict(file="out.h5"), monitor=False), ranks,
                   mpiexec=args.mpiexec, folder=folder)
    if g.succeeded(what, result, codes) and codes != (2,):
        return g.read(os.path.join(folder, "out.h5")), result
    return None, result


def compare(what, m, dense, t):
    """variance within 1e-4 but for rounding, and never negative; mean and gradient"""
    truth, rounding = dense.variance(t)
    v = m["target/variance"] / dense.m["scaling/value_scale"][0] ** 2
    if not g.check(v.shape == (len(t),), f"{what}: variance has shape {v.shape}"):
        return
    g.check(v.min() >= 0, f"{what}: variance {v.min():.3g}")
    worst = int(np.argmax(np.abs(v - truth) - (1e-4 * truth + 100 * rounding)))
    g.check(abs(v - truth)[worst] <= 1e-4 * truth[worst] + 100 * rounding[worst],
            f"{what}: variance of target {worst} is {v[worst]:.10g}, not {truth[worst]:.10g}")
    g.check(m["run@variance_missed"] == 0, f"{what}: {m['run@variance_missed']} missed")
    signal = np.abs(dense.mean(t)).max()
    g.close(f"{what}: mean", m["target/mean"], dense.mean(t), 1e-6, signal)
    if "target/gradient" in m:
        g.close(f"{what}: gradient", m["target/gradient"], dense.gradient(t)[:, :, 0], 1e-5)


METHODS = "direct", "iterative"


def settled(config, method):
    """means good to 1e-6 of systems with a condition of 1e5 or so"""
    return dict(config, solve=dict(method=method), ksp=dict(rtol=1e-11))


# ---- tests

def real(args, folder):
    """Variances on three real sets: by solve, then by predict from the model."""
    sets = {"geoid": (dict(sphere=True, standardize="values"), dict(type="matern52", length_scale=0.2), 1e-4),
            "satellite": (dict(standardize="values"), dict(type="exponential", length_scale=0.5), 1e-2),
            "protein": (dict(standardize="both"), dict(type="matern", nu=1.5, length_scale=2.0, amplitude=0.8), 1e-2)}
    n, m = 500, 70
    for name, (data, kernel, alpha) in sets.items():
        with h5py.File(os.path.join(CONFIGS, f"{name}.h5")) as f:
            rows = np.linspace(0, len(f["x"]) - 1, n + m).astype(int)
            x, y = f["x"][()][rows].astype(float), f["y"][()][rows].astype(float)
        order = np.random.default_rng(7).permutation(n + m)
        x, y, t = x[order[:n]], y[order[:n]], np.vstack([x[order[n:]], x[order[:3]]])
        g.write(os.path.join(folder, "data.h5"), x=x, y=y, t=t)
        config = dict(data=dict(data, file="data.h5"), target=dict(file="data.h5", points="t", variance=True),
                      kernel=kernel, ridge=dict(alpha=alpha))
        dense = None
        for method in METHODS:
            for ranks in 1, 2, 4:
                what = f"{name} {method} on {ranks} ranks"
                out, _ = run(args, folder, what, "solve", settled(config, method), ranks)
                if out is None:
                    continue
                dense = dense or Dense(out, y)
                compare(what, out, dense, t)
                os.replace(os.path.join(folder, "out.h5"), os.path.join(folder, "model.h5"))
                of_model = dict(model=dict(file="model.h5"), target=config["target"])
                out, _ = run(args, folder, f"{what}, predict", "predict", settled(of_model, method), ranks)
                if out is not None:
                    compare(f"{what}, predict", out, dense, t)


def waves(x):
    """values and gradients"""
    s, c, S, C = np.sin(3 * x[:, 0]), np.cos(3 * x[:, 0]), np.sin(2 * x[:, 1]), np.cos(2 * x[:, 1])
    return s * C, np.stack([3 * c * C, -2 * s * S], 1)


CASES = [  # kernel, tail, alpha, with gradients, standardised
    (dict(type="cubic", length_scale=0.7), 1, 0.0, False, "both"),
    (dict(type="cubic", length_scale=[1.0, 2.0]), 2, 1e-3, False, "none"),
    (dict(type="gaussian", length_scale=0.3, amplitude=2.0), 0, 1e-4, False, "both"),
    (dict(type="gaussian", length_scale=[0.5, 0.8], amplitude=2.0), -1, 1e-5, True, "both"),
    (dict(type="matern52", length_scale=0.6), 0, 1e-5, True, "points"),
]


def by_differences(args, folder, what, t, h=1e-4):
    """the gradient of the mean of model.h5 against differences of the mean: off by h^2 / 6 third derivatives, and rounding"""
    n = len(t)
    g.write(os.path.join(folder, "steps.h5"), x=np.concatenate([t] + [t + s * h * e for e in np.eye(2) for s in (1, -1)]))
    config = dict(model=dict(file="model.h5"), target=dict(file="steps.h5", gradient=True))
    m, _ = run(args, folder, what, "predict", config)
    if m is not None:
        _, right, left, up, down = m["target/mean"].reshape(5, n)
        g.close(what, m["target/gradient"][:n], np.stack([right - left, up - down], 1) / (2 * h), 1e-5)


def synthetic(args, folder):
    """Tails, gradients and standardisation; targets at points and far from them."""
    rng = np.random.default_rng(3)
    for kernel, tail, alpha, gradients, standardize in CASES:
        x = rng.random((90 if gradients else 160, 2)) * [2, 1]
        t = np.vstack([rng.random((40, 2)) * [2, 1], x[:3], [[3, 2], [-4, 0.5]]])
        y, dy = waves(x)
        g.write(os.path.join(folder, "data.h5"), x=x, y=5 * y, dy=5 * dy, t=t)
        data = dict(file="data.h5", standardize=standardize, **({"gradients": "dy"} if gradients else {}))
        config = dict(data=data, target=dict(file="data.h5", points="t", variance=True, gradient=True), kernel=kernel,
                      tail=dict(degree=tail), ridge=dict(alpha=alpha))
        name, dense = f"{kernel['type']} tail {tail}{', gradients' if gradients else ''}", None
        for method in METHODS:
            for ranks in 1, 2, 4:
                what = f"{name} {method} on {ranks} ranks"
                out, _ = run(args, folder, what, "solve", settled(config, method), ranks)
                if out is not None:
                    dense = dense or Dense(out, 5 * y, 5 * dy if gradients else None)
                    compare(what, out, dense, t)
                    os.replace(os.path.join(folder, "out.h5"), os.path.join(folder, "model.h5"))
        by_differences(args, folder, f"{name}: gradient by differences", t[:40])


def few(args, folder):
    """Ranks without points, without targets."""
    x = np.random.default_rng(4).random((3, 2))
    g.write(os.path.join(folder, "data.h5"), x=x, y=x[:, 0], t=x[:1] / 2)
    config = dict(data=dict(file="data.h5"), target=dict(file="data.h5", points="t", variance=True),
                  kernel=dict(type="gaussian"), ridge=dict(alpha=0.1))
    for method in METHODS:
        m, _ = run(args, folder, f"few {method}", "solve", settled(config, method), 4)
        if m is not None:
            compare(f"few {method}", m, Dense(m, x[:, 0]), x[:1] / 2)


def columns(args, folder):
    """Of two columns of values each has a variance in its own units, and a gradient."""
    rng = np.random.default_rng(5)
    x, t = rng.random((80, 2)), rng.random((9, 2))
    y = np.stack([waves(x)[0], 10 * x[:, 0]], 1)
    g.write(os.path.join(folder, "data.h5"), x=x, y=y, t=t)
    config = dict(data=dict(file="data.h5", standardize="values"), kernel=dict(type="matern52", length_scale=0.5),
                  target=dict(file="data.h5", points="t", variance=True, gradient=True))
    m, _ = run(args, folder, "two columns", "solve", config, 2)
    if m is not None:
        dense = Dense(m, y)
        want = np.outer(dense.variance(t)[0], m["scaling/value_scale"] ** 2)
        g.close("two columns: variance", m["target/variance"] / want, np.ones((9, 2)), 1e-4)
        g.close("two columns: gradient", m["target/gradient"], dense.gradient(t), 1e-5)


def chunks(args, folder):
    """Chunk by chunk or all at once, from a file with an index or on a grid: the same results."""
    rng = np.random.default_rng(6)
    x, t, index = rng.random((100, 2)), rng.random((300, 2)), rng.permutation(300)[:101]
    known = waves(t)[0] + 0.1
    g.write(os.path.join(folder, "data.h5"), x=x, y=waves(x)[0], t=t, yt=known, i=index)
    base = dict(data=dict(file="data.h5", standardize="both"), kernel=dict(type="gaussian", length_scale=0.5),
                ridge=dict(alpha=1e-4))
    listed = dict(file="data.h5", points="t", values="yt", index="i", gradient=True, variance=True)
    for name, target in ("index", listed), ("grid", dict(grid=[9, 13], gradient=True)):
        whole, _ = run(args, folder, name, "solve", dict(base, target=target))
        for ranks, chunk in (1, 7), (2, 10), (3, 100), (4, 1):
            what = f"{name}, chunks of {chunk} on {ranks} ranks"
            m, _ = run(args, folder, what, "solve", dict(base, target=dict(target, chunk=chunk)), ranks)
            if m is None or whole is None:
                continue
            g.check(np.array_equal(m["target/x"], whole["target/x"]), f"{what}: other targets")
            g.check(sorted(m) == sorted(whole), f"{what}: other names")
            for dataset in "mean", "gradient", "variance", "values", "rmse", "mae":
                if f"target/{dataset}" in whole:  # factorisations on other ranks round in other orders
                    g.close(f"{what}: {dataset}", m[f"target/{dataset}"], whole[f"target/{dataset}"], 1e-9)
            for dataset in ("mean", "gradient") if ranks == 1 else ():
                g.check(np.array_equal(m[f"target/{dataset}"], whole[f"target/{dataset}"]), f"{what}: bits of {dataset}")
        if name == "index" and whole is not None:
            g.check(np.array_equal(whole["target/x"], t[index]), "index: target/x is not x[index]")
            rmse = np.sqrt(np.mean((whole["target/mean"][:, 0] - known[index]) ** 2))
            g.close("index: rmse", whole["target/rmse"], [rmse], 1e-12)


def kinks(args, folder):
    """A mean with kinks at the points has a gradient between them, and some number at them."""
    x = np.random.default_rng(11).random((20, 2))
    g.write(os.path.join(folder, "data.h5"), x=x, y=waves(x)[0])
    config = dict(data=dict(file="data.h5"), kernel=dict(type="exponential"), target=dict(file="data.h5", gradient=True))
    m, _ = run(args, folder, "kinks", "solve", config)
    if m is not None:
        g.check(np.all(np.isfinite(m["target/gradient"])), f"kinks: gradient {m['target/gradient']}")
        os.replace(os.path.join(folder, "out.h5"), os.path.join(folder, "model.h5"))
        t = np.random.default_rng(12).random((40, 2))
        distance = np.linalg.norm(t[:, None] - x, axis=2).min(1)
        by_differences(args, folder, "kinks: gradient by differences", t[distance > 0.05])


def refusals(args, folder):
    """What is wrong with targets is said before the solve, wherever in the file it is."""
    x = np.random.default_rng(8).random((50, 2))
    t = np.concatenate([x] * 4)
    t[150, 1] = np.nan
    g.write(os.path.join(folder, "data.h5"), x=x, y=x[:, 0], t=t)
    config = dict(data=dict(file="data.h5"), target=dict(file="data.h5", points="t", chunk=20))
    for ranks in 1, 3:
        _, result = run(args, folder, "NaN in a late chunk", "solve", config, ranks, (2,))
        g.check(len(result.err) == 1 and "row 150 " in result.err[0] and "estimate" not in result.out,
                f"NaN in a late chunk: {result.out!r} {result.err}")
    g.check(sorted(os.listdir(folder)) == ["config0.yaml", "data.h5"], f"left behind: {os.listdir(folder)}")


def missed(args, folder):
    """Variances that iterations do not come to are counted, and the exit code is 3; the model is good."""
    x = np.random.default_rng(9).random((100, 1))
    g.write(os.path.join(folder, "data.h5"), x=x, y=np.sin(9 * x[:, 0]))
    config = dict(data=dict(file="data.h5"), target=dict(grid=[5], variance=True), solve=dict(method="iterative"),
                  kernel=dict(type="matern", length_scale=0.3), pc=dict(type="none"), ksp=dict(rtol=0.5, max_it=9))
    m, result = run(args, folder, "missed", "solve", config, 1, (3,))
    if m is not None:
        g.check(m["run@variance_missed"] > 0 and m["run@converged"] == 0 and m["run@reason"] == "variance",
                f"missed: {m['run@variance_missed']}, {m['run@reason']}")
        g.check(any("target.variance: " in line for line in result.err), f"missed: {result.err}")
        g.check(m["target/variance"].min() >= 0, "missed: negative")
        os.replace(os.path.join(folder, "out.h5"), os.path.join(folder, "model.h5"))
        config = dict(model=dict(file="model.h5"), target=dict(grid=[5]))
        _, result = run(args, folder, "the mean of that model", "predict", config)
        g.check(not result.err, f"the mean of that model: {result.err}")


def memory(args, folder):
    """Ten times the targets take no more memory: 3 million of them and their means would be 72 MB."""
    x = np.random.default_rng(10).random((60, 2))
    g.write(os.path.join(folder, "data.h5"), x=x, y=x[:, 0])
    peaks = []
    for grid in [1000, 300], [1000, 3000]:
        config = dict(data=dict(file="data.h5"), target=dict(grid=grid), kernel=dict(type="gaussian"))
        m, _ = run(args, folder, f"{grid}", "solve", config, 2)
        if m is not None:
            peaks.append(m["run@peak_memory_bytes"])
            corners = np.stack(np.meshgrid(*[[x[:, c].min(), x[:, c].max()] for c in (0, 1)], indexing="ij"), 2)
            g.close(f"{grid}: corners", m["target/x"][[0, grid[1] - 1, -grid[1], -1]], corners.reshape(4, 2), 1e-14)
            g.close(f"{grid}: mean", m["target/mean"].shape, (grid[0] * grid[1], 1), 0)
    if len(peaks) == 2:
        g.check(peaks[1] - peaks[0] < 15e6, f"3e6 targets take {peaks[1] * 1e-6:.0f} MB, 3e5 {peaks[0] * 1e-6:.0f} MB")


g.main(__doc__, [real, synthetic, few, columns, kinks, chunks, refusals, missed, memory])
