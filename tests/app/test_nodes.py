"""Quadrature nodes and weights: published runs reproduced, greedy sequences index by index, descents as good as they are
known to be, the same nodes on any number of ranks, stopped and resumed; weights and errors against plain numpy."""
import os
import shutil
import signal

import h5py
import numpy as np

import gramarye as g

REFERENCE = os.path.join(os.path.dirname(g.HERE), "data", "quadrature.h5")
STILL = dict(nodes_tolerance=0)  # every sweep that is asked for: exit code 3


def gaussian(a):
    """exp(-a^2 |x - y|^2)"""
    return dict(kernel_type="gaussian", kernel_length_scale=float(1 / (a * np.sqrt(2))))


def options(keys):
    """{"nodes_size": 10} as -nodes_size 10"""
    text = lambda v: ",".join(map(text, v)) if isinstance(v, (list, tuple)) else repr(v) if isinstance(v, float) else str(v)
    return [word for key, value in keys.items() for word in ("-" + key, text(value))]


def run(args, folder, what, ranks=1, codes=(0,), verb="nodes", said=None, **keys):
    """The output read back; said: a list that gets what was printed."""
    out = os.path.join(folder, "out.h5")
    os.path.exists(out) and os.remove(out)
    r = g.run(args.program, verb, None, ranks, options({**keys, "output_file": "out.h5"}), args.mpiexec, folder)
    if said is not None:
        said.extend([r.out, " ".join(r.err)])
    if not g.succeeded(what, r, codes) or not g.check(os.path.exists(out), f"{what}: exit {r.code} without output"):
        return None
    m = g.read(out)
    g.check(m["run@converged"] == (r.code == 0), f"{what}: exit code {r.code}, but converged = {m['run@converged']}")
    return m


def spacing(n, d):
    return n ** (-1 / d)


def separation(x):
    """The least distance of two rows."""
    least = np.inf
    for i in range(0, len(x), 250):
        r2 = ((x[i:i + 250, None] - x[None]) ** 2).sum(-1)
        r2[np.arange(len(r2)), i + np.arange(len(r2))] = np.inf
        least = min(least, r2.min())
    return np.sqrt(least)


# ---- the published method

def published(args, folder):
    """tests/data/README.md: as many sweeps, nodes within max(1e-9, 1e4 sens), errors within max(1e-8, 1e4 sens)."""
    with h5py.File(REFERENCE, "r") as f:
        for name, case in f["pwgd"].items():
            a = case.attrs
            keys = dict(nodes_size=a["N"], nodes_dim=a["d"], nodes_field="paper", nodes_start="halton",
                        nodes_energy={"fund": "fundamental", "gauss": "gaussian"}[a["energy"]], **gaussian(a["a"]),
                        nodes_step=a["gamma0"], nodes_barrier_power=a["pwr"], nodes_barrier_margin=a["mrgn"])
            for k in () if a["reproducible"] else (1, 2, 5):  # bounces between walls for good: its first sweeps
                what, known = f"{name}, {k} sweeps", case[f"nodes_sweep{k}"]
                m = run(args, folder, what, codes=(3,), weights_method="equal", nodes_max_sweeps=k, **keys)
                if m:
                    g.close(what, m["x"], known[()], max(1e-9, 1e4 * known.attrs["sens"]), 1)
            stopped = bool(a["stopped_by_gradient"])
            # mpiexec takes its time over an exit code of 3
            ranks = (1,) if not stopped and name != "2d_fund_N20" else (1, 2)
            for n in ranks if a["reproducible"] and (args.all or a["N"] <= 20 or name == "3d_fund_N60") else ():
                what = f"{name} on {n} ranks"
                m = run(args, folder, what, n, (0 if stopped else 3,), **keys)
                if not m:
                    continue
                g.check(m["run@sweeps"] == a["iterations"], f"{what}: {m['run@sweeps']} sweeps, not {a['iterations']}")
                g.close(f"{what}: nodes", m["x"], case["nodes"][()], max(1e-9, 1e4 * a["sens_nodes"]), 1)
                for error, known in ("@wce_squared", "wce2_optimal"), ("@wce_squared_equal", "wce2_equal"):
                    g.close(f"{what}: {error}", m[error], a[known], max(1e-8, 1e4 * a["sens_wce2"]))
                for history in "max_gradient", "energy", "move":
                    g.check(m["history/" + history].shape == (a["iterations"],), f"{what}: {history} of another length")
                g.check((m["history/max_gradient"][-1] < 1e-4) == stopped and (m["history/max_gradient"][:-1] >= 1e-4).all(),
                        f"{what}: goes on, or not, after a gradient below 1e-4")


# ---- greedy sequences

def sbq(args, folder):
    """Every index, and errors: of the weights in extended precision, of the running difference to what doubles hold."""
    with h5py.File(REFERENCE, "r") as f:
        for (name, case), noise in zip(f["sbq"].items(), (5e-14, 2e-15)):  # eps (sum |w|)^2, see solvers/pivchol.h
            m, d, n = case.attrs["grid"], case.attrs["d"], len(case["index"])
            for p in 1, 2, 4:
                what = f"sbq {name} on {p} ranks"
                o = run(args, folder, what, p, nodes_method="sbq", nodes_size=n, nodes_dim=d, nodes_candidates=[m] * d,
                        **gaussian(case.attrs["a"]))
                if not o:
                    continue
                j = np.rint(o["x"] * (m - 1))
                g.check(np.array_equal(o["x"], j / (m - 1)), f"{what}: nodes that are no candidates")
                index = (j @ m ** np.arange(d - 1, -1, -1)).astype(int)
                g.check(np.array_equal(index, case["index"]), f"{what}: {index}, not {case['index'][()]}")
                g.close(f"{what}: wce^2", o["@wce_squared"], case["wce2"][-1], 1e-12)
                g.close(f"{what}: history", o["history/wce_squared"], case["wce2"][()], noise, 1)
            o = run(args, folder, f"sbq {name}, 10 nodes", nodes_method="sbq", nodes_size=10, nodes_dim=d,
                    nodes_candidates=[m] * d, **gaussian(case.attrs["a"]))
            if o:
                g.close(f"sbq {name}, 10 nodes: wce^2", o["@wce_squared"], case["wce2"][9], 1e-12)


def pgreedy(args, folder):
    """The candidate of the largest power function, the lowest index where several are."""
    counts, n = (17, 12), 60
    grid = np.stack(np.meshgrid(*(np.linspace(0, 1, c) for c in counts), indexing="ij"), -1).reshape(-1, 2)
    K = g.gram(grid, grid, "matern", 1.5, 0.4)
    left, factor, known = np.ones(len(grid)), np.zeros((len(grid), 0)), []
    for _ in range(n):
        p = int(np.argmax(left >= left.max() * (1 - 1e-9)))
        column = (K[:, p] - factor @ factor[p]) / np.sqrt(left[p])
        factor, left = np.column_stack([factor, column]), left - column ** 2
        left[p] = 0
        known.append(p)
    for ranks in 1, 3:
        what = f"pgreedy on {ranks} ranks"
        m = run(args, folder, what, ranks, nodes_method="pgreedy", nodes_size=n, nodes_candidates=counts,
                kernel_type="matern", kernel_nu=1.5, kernel_length_scale=0.4)
        if m:
            index = np.rint(m["x"] * (np.array(counts) - 1)) @ (counts[1], 1)
            g.check(np.array_equal(index, known), f"{what}: {index}, not {known}")
            g.check("history/wce_squared" not in m, f"{what}: a history of errors")
    # more nodes than are independent in double: those there are, and exit code 3
    said = []
    m = run(args, folder, "pgreedy, exhausted", codes=(3,), said=said, nodes_method="pgreedy", nodes_size=150,
            nodes_candidates=(13, 13), **gaussian(0.5))
    if m:
        g.check(10 < len(m["x"]) < 150 and m["run@reason"] == "exhausted" and "nodes.size" in said[1],
                f"pgreedy, exhausted: {len(m['x'])} nodes, {m['run@reason']}, said {said[1]}")


# ---- how good the descent is

def stability(args, folder):
    """All nodes at once, from random: natural moves below .05 h at sweep 20, .01 h at sweep 30, whatever the number of
    nodes; not with a step beyond the edge. Equal weights are then far better than Halton, and Sobol where scrambled."""
    sizes = [(2, 1000, None, None, None), (3, 1000, None, None, None),
             (2, 10000, 35.0, 1.5e-8, 100), (3, 10000, 10.77, 3.6e-7, 10)]
    if args.all:
        sizes += [(2, 100000, 110.7, 6e-10, 100), (3, 100000, 23.2, 1.8e-8, 10)]
    sweeps = {}
    for d, n, a, bound, factor in sizes:
        what, most = f"{n} nodes in {d}D", 20 if (d, n) == (3, 100000) else 30
        kernel, equal = gaussian(a or 5.0), dict(weights_method="equal", nodes_dim=d, nodes_size=n)
        m = run(args, folder, what, 1 if n < 50000 else 2, codes=(3,), nodes_start="random", nodes_seed=1,
                nodes_max_sweeps=most, **STILL, **equal, **kernel)
        if not m:
            continue
        move = m["history/move"]
        g.check(move[19] <= 0.05, f"{what}: moves of {move[19]:.3g} h at sweep 20")
        g.check(most < 30 or move[29] <= 0.01, f"{what}: moves of {move[29] if most >= 30 else 0:.3g} h at sweep 30")
        g.check(move.min() <= 0.02, f"{what}: no sweep of moves below .02 h")
        sweeps.setdefault(d, []).append(1 + int(np.argmax(move <= 0.02)))
        g.close(f"{what}: sum of weights", m["weights"].sum(), 1, 1e-12)
        if not a:
            continue
        g.check(m["@wce_squared"] == m["@wce_squared_equal"], f"{what}: weights that are not equal")
        g.check(m["@wce_squared"] <= bound, f"{what}: wce^2 {m['@wce_squared']:.3g}, at most {bound:g}")
        halton = run(args, folder, f"{what}, halton", nodes_method="halton", **equal, **kernel)
        g.check(not halton or factor * m["@wce_squared"] <= halton["@wce_squared"],
                f"{what}: wce^2 {m['@wce_squared']:.3g}, halton {halton and halton['@wce_squared']:.3g}")
        wild = n == 10000 and run(args, folder, f"{what}, step 1.2", codes=(3,), nodes_start="random", nodes_seed=1,
                                  nodes_step=1.2, nodes_max_sweeps=30, **STILL, **equal, **kernel)
        if wild:
            move = wild["history/move"]
            g.check(move[19] > 0.05 and move[29] > 0.05, f"{what}, step 1.2: moves of {move[29]:.3g} h, as if it were stable")
    for d, counts in sweeps.items():
        g.check(max(counts) <= 1.5 * min(counts), f"sweeps to moves of .02 h in {d}D: {counts}")


def sobol(args, folder):
    """A power of two of nodes is what Sobol is best at: 20 times as good as scrambled, better than plain."""
    n, keys = 2 ** 14, dict(nodes_size=2 ** 14, weights_method="equal", **gaussian(35 * 1.28))
    m = run(args, folder, "2^14 nodes", codes=(3,), nodes_start="random", nodes_max_sweeps=30, **STILL, **keys)
    plain = run(args, folder, "2^14 of sobol", nodes_method="sobol", **keys)
    if not (m and plain):
        return
    rng, digit = np.random.default_rng(1), np.arange(1, 33)
    bits = (plain["x"][..., None] * 2.0 ** digit[:14]).astype(int) & 1
    matrix = np.tril(rng.integers(0, 2, (2, 32, 14)), -1) + np.eye(32, 14, dtype=int)  # J. Matousek (1998)
    shifted = np.einsum("nkj,kij->nki", bits, matrix) + rng.integers(0, 2, (2, 32))
    g.write(os.path.join(folder, "scrambled.h5"), x=shifted % 2 @ 0.5 ** digit)
    scrambled = run(args, folder, "2^14 scrambled", verb="weights", data_file="scrambled.h5", **keys)
    for name, factor, other in ("plain", 1, plain), ("scrambled", 20, scrambled):
        g.check(not other or factor * m["@wce_squared"] <= other["@wce_squared"],
                f"{n} nodes: wce^2 {m['@wce_squared']:.3g}, sobol {name} {other and other['@wce_squared']:.3g}")


def optimal(args, folder):
    """1000 nodes with a gap at the walls and optimal weights."""
    for d, a, bound in (2, 11.07, 3e-11), (3, 5.0, 3e-8):
        keys = dict(nodes_size=1000, nodes_dim=d, nodes_start="random", nodes_seed=1, nodes_max_sweeps=60, **STILL, **gaussian(a))
        m = run(args, folder, f"optimal, {d}D", codes=(3,), **keys)
        g.check(not m or m["@wce_squared"] <= bound, f"optimal, {d}D: wce^2 {m and m['@wce_squared']:.3g}, at most {bound:g}")
        if d == 2:
            m = run(args, folder, "with a ridge", codes=(3,), ridge_alpha=1e-6, **keys)
            g.check(not m or (m["weights"].min() > 0 and m["@wce_squared"] <= bound),
                    f"with a ridge: least weight {m and m['weights'].min():.3g}, wce^2 {m and m['@wce_squared']:.3g}")


def paper_sizes(args, folder):
    """a = 1: the median of five random starts against sequential Bayesian quadrature, 10 times as good in the plane, 3
    times in space."""
    with h5py.File(REFERENCE, "r") as f:
        for name, sizes, factor in ("2d_50x50", (10, 20, 30, 40, 50), 10), ("3d_20x20x20", (20, 50, 100), 3):
            for n in sizes if args.all else sizes[::2]:
                errors, known = [], f[f"sbq/{name}/wce2"][n - 1]
                for seed in range(5):
                    m = run(args, folder, f"{n} nodes of seed {seed}", codes=(3,), nodes_size=n, nodes_dim=int(name[0]),
                            nodes_start="random", nodes_seed=seed, nodes_max_sweeps=80, **STILL, **gaussian(1))
                    errors.append(m["@wce_squared"] if m else np.nan)
                g.check(factor * np.median(errors) <= known, f"{n} nodes in {name[:2]}: wce^2 {errors}, sbq {known:.3g}")


def apart(args, folder):
    """No two nodes come close, nor coincide where a weak barrier lets them gather on the walls."""
    for d, n in (2, 5000), (3, 5000):
        m = run(args, folder, f"apart, {d}D", codes=(3,), nodes_size=n, nodes_dim=d, nodes_start="random", weights_method="equal",
                nodes_max_sweeps=40, **STILL, **gaussian(5))
        least = separation(m["x"]) / spacing(n, d) if m else 1
        g.check(least >= 0.75, f"apart, {d}D: {least:.3g} spacings")
        g.check(not m or ((m["x"] >= 0) & (m["x"] <= 1)).all(), f"apart, {d}D: nodes out of the box")
    m = run(args, folder, "weak barrier", codes=(0, 3), nodes_size=300, nodes_dim=3, nodes_field="paper", nodes_start="random",
            nodes_barrier_power=3, nodes_max_sweeps=100, weights_method="equal", **gaussian(5))
    if m:
        wall, least = ((m["x"] == 0) | (m["x"] == 1)).any(1).mean(), separation(m["x"]) / spacing(300, 3)
        g.check(wall > 0.3, f"weak barrier: {wall:.2f} of the nodes on the walls")
        g.check(least > 0.1, f"weak barrier: {least:.3g} spacings")


# ---- the same nodes

def ranks(args, folder):
    """The same bits on any number of ranks, also with more ranks than nodes in a block."""
    for d in 2, 3:
        keys = dict(nodes_size=2003, nodes_dim=d, nodes_start="random", weights_method="equal", **gaussian(5))
        if d == 3:
            keys.update(nodes_sweep="block", nodes_blocks=400)
        one = run(args, folder, f"{d}D on 1 rank", **keys)
        for p in 2, 3, 4, 8:
            m = run(args, folder, f"{d}D on {p} ranks", p, **keys)
            if m and one:
                g.check(np.array_equal(m["x"], one["x"]),
                        f"{d}D on {p} ranks: nodes differ by {abs(m['x'] - one['x']).max():.3g}")
                for name in "history/move", "history/energy", "history/max_gradient":
                    g.check(np.array_equal(m[name], one[name]), f"{d}D on {p} ranks: {name} differs")
                g.close(f"{d}D on {p} ranks: wce^2", m["@wce_squared"], one["@wce_squared"], one["@wce_squared_error"], 1)
    few = [run(args, folder, f"5 nodes on {p} ranks", p, nodes_size=5, **gaussian(1)) for p in (1, 8)]
    g.check(not all(few) or np.array_equal(few[0]["x"], few[1]["x"]), "5 nodes on 8 ranks: others")


def mixed(args, folder):
    """Floats are enough, and are used."""
    for d, a in (2, 11.07), (3, 5.0):
        m = [run(args, folder, f"{precision}, {d}D", codes=(3,), nodes_size=1000, nodes_dim=d, nodes_start="random",
                 nodes_max_sweeps=40, product_precision=precision, **STILL, **gaussian(a)) for precision in ("double", "mixed")]
        if all(m):
            off = np.sqrt(((m[1]["x"] - m[0]["x"]) ** 2).sum(1)).max() / spacing(1000, d)
            g.check(0 < off <= 1e-3, f"mixed, {d}D: nodes off by {off:.3g} spacings")
            g.close(f"mixed, {d}D: wce^2", m[1]["@wce_squared"], m[0]["@wce_squared"], 0.01)
            g.close(f"mixed, {d}D: equal weights", m[1]["@wce_squared_equal"], m[0]["@wce_squared_equal"], 0.01)


def sweeps(args, folder):
    """Blocks, and nodes one by one, come to nodes as good; the reference backend to the same; more coordinates, other boxes,
    few nodes."""
    energies, errors = {}, {}
    for name, keys in (("jacobi", {}), ("block", {}), ("block", dict(nodes_blocks=7)), ("sequential", {})):
        m = run(args, folder, f"{name} {keys}", nodes_size=300, nodes_dim=3, nodes_start="random", nodes_sweep=name,
                **keys, **gaussian(3))
        if m:
            g.check(m["run@sweeps"] <= 40, f"{name} {keys}: {m['run@sweeps']} sweeps")
            energies[name, *keys], errors[name, *keys] = m["history/energy"][-1], m["@wce_squared"]
    g.check(len(energies) == 4 and len(set(energies.values())) == 4, f"sweeps that are all one: {energies}")
    g.check(np.ptp(list(energies.values())) <= 2e-3, f"energies of sweeps: {energies}")
    # between seeds it differs as much
    g.check(max(errors.values()) <= 3 * min(errors.values()), f"wce^2 of sweeps: {errors}")

    m = [run(args, folder, f"backend {backend}", nodes_size=300, nodes_dim=3, backend=backend, **gaussian(3))
         for backend in ("cpu", "ref")]
    if all(m):
        g.close("backend ref", m[1]["x"], m[0]["x"], 1e-12, 1)

    for d in 4, 5:
        m = {method: run(args, folder, f"{method}, {d}D", nodes_method=method, nodes_size=200, nodes_dim=d, **gaussian(1.5))
             for method in ("pwgd", "sobol")}
        if all(m.values()):
            e = {method: o["@wce_squared"] for method, o in m.items()}
            g.check(5 * e["pwgd"] <= e["sobol"], f"{d}D: wce^2 {e}")

    keys = dict(nodes_size=500, nodes_start="random")
    unit, box = (run(args, folder, f"box {bounds}", nodes_lower=bounds[0], nodes_upper=bounds[1], **keys,
                     **gaussian(12 / (bounds[1] - bounds[0]))) for bounds in ((0, 1), (-3, 4)))
    if unit and box:
        g.close("box -3 ... 4: nodes", (box["x"] + 3) / 7, unit["x"], 1e-12, 1)
        g.close("box -3 ... 4: wce^2", box["@wce_squared"], unit["@wce_squared"], 1e-6)
        g.close("box -3 ... 4: moves", box["history/move"], unit["history/move"], 1e-9)
    m = run(args, folder, "long box", nodes_lower=[0, 2], nodes_upper=[8, 2.5], **keys, **gaussian(6))
    if m:
        inside = (m["x"] >= [0, 2]) & (m["x"] <= [8, 2.5])
        least = separation(m["x"]) / np.sqrt(4 / 500)
        g.check(inside.all() and least >= 0.7, f"long box: {inside.mean():.2f} inside, {least:.2f} spacings apart")

    for n, d in (1, 2), (2, 2), (3, 3):  # three in a cube rest beside its centre, in a triangle
        m = run(args, folder, f"{n} nodes in {d}D", nodes_size=n, nodes_dim=d, nodes_start="random", nodes_tolerance=1e-6,
                nodes_max_sweeps=1000, **gaussian(1))
        if m:
            g.close(f"{n} nodes in {d}D: centre", m["x"].mean(0), np.full(d, 0.5), 1e-4 if n < 3 else 0.02, 1)
            g.check(m["history/max_gradient"][-1] <= 1e-5, f"{n} nodes in {d}D: forces {m['history/max_gradient'][-1]}")
            g.check(n == 1 or separation(m["x"]) > 0.4, f"{n} nodes in {d}D: {m['x']}")


# ---- weights, measures, files

def start(args, folder):
    """A start from a file is as one of the program's own; its nodes are taken by the other verbs."""
    keys = dict(nodes_size=150, **gaussian(2))
    g.write(os.path.join(folder, "start.h5"), x=g.halton(150, 2, 6))
    own = run(args, folder, "start: halton", nodes_start="halton", nodes_seed=5, **keys)
    for p in 1, 2:
        m = run(args, folder, f"start of a file on {p} ranks", p, nodes_start="start.h5", **keys)
        g.check(not (m and own) or np.array_equal(m["x"], own["x"]), f"start of a file on {p} ranks: other nodes")
    if not m:
        return
    shutil.copy(os.path.join(folder, "out.h5"), os.path.join(folder, "nodes.h5"))
    for p in 1, 3:
        w = run(args, folder, f"weights of nodes on {p} ranks", p, verb="weights", data_file="nodes.h5", **keys)
        if w:
            g.check(np.array_equal(w["x"], m["x"]), f"weights of nodes on {p} ranks: other nodes")
            g.close(f"weights of nodes on {p} ranks", w["@wce_squared"], m["@wce_squared"], 1e-12)
            g.close(f"weights of nodes on {p} ranks: equal", w["@wce_squared_equal"], m["@wce_squared_equal"], 1e-12)
    f = lambda x: np.exp(-x[:, 0]) * np.sin(3 * x[:, 1])
    g.write(os.path.join(folder, "design.h5"), x=m["x"], y=f(m["x"]), t=g.halton(99, 2, 500), f=f(g.halton(99, 2, 500)))
    s = run(args, folder, "nodes as a design", verb="solve", data_file="design.h5", target_file="design.h5", target_points="t",
            target_values="f", kernel_type="matern", kernel_nu=2.5, ridge_alpha=1e-10)
    g.check(not s or np.max(s["target/rmse"]) < 1e-3, f"nodes as a design: rmse {s and s['target/rmse']}")
    exact = (1 - np.exp(-1)) * (1 - np.cos(3)) / 3
    g.check(abs(m["weights"] @ f(m["x"]) - exact) < 1e-9, f"integral {m['weights'] @ f(m['x'])}, not {exact}")


def cloud():
    """Samples of two lumps, and their weights."""
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal([0.2, 0.1], 0.3, (500, 2)), rng.normal([2, 1], [0.2, 0.5], (701, 2))])
    return x, rng.uniform(0.2, 1, len(x))


def errors(x, w, samples, charge, kernel):
    """I - 2 w'z + w'Kw, K, z"""
    K, z = kernel(x, x), kernel(x, samples) @ charge
    return charge @ kernel(samples, samples) @ charge - 2 * w @ z + w @ K @ w, K, z


def measures(args, folder):
    """A measure of samples: means, weights and errors by plain loops; nodes go where samples are."""
    samples, charge = cloud()
    g.write(os.path.join(folder, "samples.h5"), x=samples, weights=charge)
    g.write(os.path.join(folder, "bare.h5"), x=samples)
    kernel = lambda x, y: g.gram(x, y, "matern", 1.5, 0.7)
    keys = dict(nodes_measure="samples", nodes_size=60, kernel_type="matern", kernel_nu=1.5, kernel_length_scale=0.7)
    for name, q in ("samples.h5", charge / charge.sum()), ("bare.h5", np.full(len(samples), 1 / len(samples))):
        for p in 1, 2:
            what = f"{name} on {p} ranks"
            m = run(args, folder, what, p, nodes_samples=name, nodes_max_sweeps=200, **keys)
            if not m:
                continue
            error, K, z = errors(m["x"], m["weights"], samples, q, kernel)
            g.close(f"{what}: wce^2", m["@wce_squared"], error, 1e-12, 1)
            g.close(f"{what}: weights", m["weights"], np.linalg.solve(K, z), 1e-9)
            equal = errors(m["x"], np.full(60, 1 / 60), samples, q, kernel)[0]
            g.close(f"{what}: equal weights", m["@wce_squared_equal"], equal, 1e-12, 1)
            some = samples[np.random.default_rng(1).permutation(len(samples))[:60]]
            K, z = kernel(some, some), kernel(some, samples) @ q
            chance = errors(some, np.linalg.solve(K, z), samples, q, kernel)[0]
            g.check(m["@wce_squared"] < 0.7 * chance, f"{what}: wce^2 {m['@wce_squared']:.3g}, of random samples {chance:.3g}")
            share, known = (m["x"][:, 0] < 1.2).mean(), q[samples[:, 0] < 1.2].sum()
            g.check(abs(share - known) < 0.1, f"{what}: {share:.2f} of the nodes at a lump of {known:.2f}")

    m = run(args, folder, "sums to one", nodes_samples="samples.h5", nodes_max_sweeps=200, weights_sum_to_one="true", **keys)
    if m:
        q = charge / charge.sum()
        error, K, z = errors(m["x"], m["weights"], samples, q, kernel)
        w, u = np.linalg.solve(K, np.stack([z, np.ones(60)], 1)).T
        g.close("sums to one: sum", m["weights"].sum(), 1, 1e-13)
        g.close("sums to one: weights", m["weights"], w + (1 - w.sum()) / u.sum() * u, 1e-9)
        g.close("sums to one: wce^2", m["@wce_squared"], error, 1e-12, 1)
        g.check(abs(w.sum() - 1) > 1e-6, "sums to one: as it would anyway")


def boxes(args, folder):
    """Means over a box against those of a fine grid of samples: midpoints, second order."""
    lower, upper, counts = np.array([-1, 0.5]), np.array([1, 1.5]), (140, 70)
    grid = np.stack(np.meshgrid(*(l + (np.arange(c) + 0.5) / c * (u - l) for l, u, c in zip(lower, upper, counts)),
                                indexing="ij"), -1).reshape(-1, 2)
    x = lower + (upper - lower) * g.halton(40, 2)
    g.write(os.path.join(folder, "x.h5"), x=x)
    g.write(os.path.join(folder, "grid.h5"), x=grid)
    for nu in 0.5, 1.5, 2.5, 4.5:
        keys = dict(verb="weights", data_file="x.h5", kernel_type="matern", kernel_nu=nu, kernel_length_scale=[0.6, 0.4],
                    kernel_amplitude=2)
        closed = run(args, folder, f"box, nu {nu}", nodes_lower=lower.tolist(), nodes_upper=upper.tolist(), **keys)
        sampled = run(args, folder, f"grid, nu {nu}", nodes_measure="samples", nodes_samples="grid.h5", **keys)
        if closed and sampled:
            # 1/24 of a cell's width squared over that of the length scale, of a mean of 4: 1e-4 of it where nu is large
            g.close(f"nu {nu}: equal weights", closed["@wce_squared_equal"], sampled["@wce_squared_equal"], 4e-3)
            g.close(f"nu {nu}: weights", closed["weights"], sampled["weights"], 4e-3 if nu < 4 else 4e-2)


def nonnegative(args, folder):
    """The conditions of Karush, Kuhn and Tucker, few nodes and many; nothing changes where optimal weights are positive."""
    samples, charge = cloud()
    g.write(os.path.join(folder, "samples.h5"), x=samples, weights=charge)
    measure = dict(nodes_measure="samples", nodes_samples="samples.h5")
    for n, alpha, kernel in ((150, 0.0, ("matern", 1.5, 0.7)), (150, 1e-3, ("gaussian", np.nan, 0.5)),
                             (1200, 1e-4, ("exponential", np.nan, 0.7))):
        x = [-0.7, -1.4] + np.array([3.4, 4.2]) * g.halton(n, 2)
        g.write(os.path.join(folder, "x.h5"), x=x)
        keys = dict(verb="weights", data_file="x.h5", ridge_alpha=alpha, kernel_type=kernel[0], kernel_nu=1.5,
                    kernel_length_scale=kernel[2], **measure)
        plain = run(args, folder, f"optimal weights of {n}", **keys)
        ridge = max(alpha, 1e-6)  # constrained weights have one
        for p, one in (1, "false"), (2, "false"), (1, "true"):
            what = f"nonnegative weights of {n}, {kernel[0]}, on {p} ranks, sum to one {one}"
            m = run(args, folder, what, p, weights_method="nonnegative", weights_sum_to_one=one, **keys)
            if not m:
                continue
            w = m["weights"]
            error, K, z = errors(x, w, samples, charge / charge.sum(), lambda x, y: g.gram(x, y, *kernel))
            g.check(w.min() >= 0 and m["@weights_negative"] == 0, f"{what}: least {w.min():.3g}")
            g.close(f"{what}: wce^2", m["@wce_squared"], error, 1e-12, 1)
            if one == "true":
                g.close(f"{what}: sum", w.sum(), 1, 1e-13)
                continue
            gradient = K @ w + ridge * w - z
            g.check((w == 0).mean() > 0.05, f"{what}: none is 0")
            # to 1e-10 of |z|, which is below 10
            g.check(gradient.min() >= -1e-9, f"{what}: a gradient of {gradient.min():.3g}")
            g.close(f"{what}: gradient where weights are positive", gradient[w > 0], np.zeros((w > 0).sum()), 1e-9, 1)
            g.check(not plain or (plain["@weights_negative"] > 0 and plain["@wce_squared"] < m["@wce_squared"]),
                    f"{what}: no worse than optimal")
    keys = dict(nodes_size=100, ridge_alpha=1e-6, **gaussian(4))
    same, plain = (run(args, folder, f"nothing negative, {method}", weights_method=method, **keys)
                   for method in ("nonnegative", "optimal"))
    if same and plain:
        g.check(plain["weights"].min() > 0, f"nothing negative: {plain['weights'].min()}")
        g.close("nothing negative", same["weights"], plain["weights"], 1e-12)


# ---- stopped and resumed

def polish(args, folder):
    """The worst-case error falls, in the box, as the program says, and as far as differences let it."""
    keys = dict(nodes_size=60, **gaussian(3.5))
    plain = run(args, folder, "not polished", **keys)
    for p in 1, 2:
        m = run(args, folder, f"polished on {p} ranks", p, nodes_polish=40, **keys)
        if not (plain and m):
            continue
        g.check(1 <= m["run@polished"] <= 40 and plain["run@polished"] == 0, f"polished: {m['run@polished']} iterations")
        g.check(m["@wce_squared"] <= 0.2 * plain["@wce_squared"], f"polished: {m['@wce_squared']}, {plain['@wce_squared']} before")
        g.check(m["x"].min() >= 0 and m["x"].max() <= 1 and 0 < abs(m["x"] - plain["x"]).max() < 0.2, "polished: nodes go far")


def interrupt(args, folder, p, number, after, **keys):
    """Exit code and standard output of a run of p ranks that gets a signal, see gramarye.py; nothing is there before."""
    for name in "out.h5", "out.h5.checkpoint", "out.h5.checkpoint.old":
        path = os.path.join(folder, name)
        os.path.exists(path) and os.remove(path)
    words = options({**keys, "output_file": "out.h5"})
    return g.interrupt(g.command(args.program, "nodes", [], p, words, args.mpiexec), folder, number, after)


def checkpoint(args, folder):
    """A descent that is stopped or killed goes on from its checkpoint, to the same bits on any number of ranks."""
    n, most = (20000, 400) if args.all else (6000, 250)
    keys = dict(nodes_size=n, nodes_start="random", nodes_seed=3, nodes_max_sweeps=most, weights_method="equal", **STILL,
                **gaussian(20))
    path = os.path.join(folder, "out.h5")
    whole = run(args, folder, "not stopped", 1, (3,), **keys)
    if not whole:
        return
    seconds, saved = float(whole["run@seconds_total"]), dict(checkpoint_interval=0.2)

    def interrupted(p, number, after, **more):
        return interrupt(args, folder, p, number, after, **keys, **more)

    def resumed(what, p):
        said = []
        m = run(args, folder, what, p, (3,), said=said, **keys)
        g.check("resumed" in said[0], f"{what}: begins anew: {said}")
        if m:
            for name in "x", "history/move", "history/energy":
                g.check(np.array_equal(m[name], whole[name]), f"{what}: {name} is not that of the whole run")
            g.check(not os.path.exists(path + ".checkpoint"), f"{what}: the checkpoint is left")

    for p, again in (1, 2), (2, 1):
        what, after = f"USR1 on {p} ranks", 0.4 * seconds / p + 0.4
        for _ in range(5):  # too early is before it listens, too late after it
            code, out = interrupted(p, signal.SIGUSR1, after)
            if code == 75:
                break
            after *= 1.3 if code not in (0, 3) else 0.7
        if g.check(code == 75 and "stopped" in out, f"{what}: exit code {code}, said {out}"):
            g.check(os.path.exists(path + ".checkpoint") and not os.path.exists(path), f"{what}: left {os.listdir(folder)}")
            resumed(f"{what}, resumed on {again}", again)

    code, _ = interrupted(2, signal.SIGKILL, "out.h5.checkpoint.old", **saved)
    if g.check(code not in (0, 3, 75) and os.path.exists(path + ".checkpoint.old"), f"kill -9: exit code {code}"):
        shutil.copytree(folder, os.path.join(folder, "kept"))
        resumed("kill -9 on 2 ranks, resumed on 1", 1)
        kept = [name for name in os.listdir(os.path.join(folder, "kept")) if ".checkpoint" in name]
        for change in ({"nodes_seed": 4}, {"nodes_step": 0.8}, {"nodes_gap": 0.1}, {"nodes_sweep": "block"},
                       {"nodes_upper": 1.5}):
            for name in kept:
                shutil.copy(os.path.join(folder, "kept", name), folder)
            said = []
            run(args, folder, f"checkpoint and {change}", codes=(3,), said=said, **{**keys, **change, "nodes_max_sweeps": 2})
            g.check("resumed" not in said[0] and "checkpoint" in said[1] and "begins anew" in said[1],
                    f"checkpoint and {change}: said {said}")


def others(args, folder):
    """Checkpoints of other samples, or of a kernel whose amplitude pushes the nodes, are named and not used."""
    rng, path = np.random.default_rng(2), os.path.join(folder, "out.h5.checkpoint")
    for name in "one.h5", "two.h5":  # in the same box
        g.write(os.path.join(folder, name), x=np.concatenate([rng.random((998, 2)), [[0, 0], [1, 1]]]))
    samples = dict(nodes_measure="samples", nodes_samples="one.h5")
    m2 = dict(nodes_field="paper", nodes_energy="gaussian", **gaussian(2))
    for keys, change in (samples, {"nodes_samples": "two.h5"}), (m2, {"kernel_amplitude": 2}):
        keys = dict(nodes_size=500, nodes_start="halton", weights_method="equal", nodes_max_sweeps=100000, **STILL, **keys)
        code, _ = interrupt(args, folder, 1, signal.SIGKILL, "out.h5.checkpoint", checkpoint_interval=0.2, **keys)
        if g.check(code == -signal.SIGKILL and os.path.exists(path), f"{change}: no checkpoint, exit code {code}"):
            said = []
            run(args, folder, f"{change}", codes=(3,), said=said, **{**keys, **change, "nodes_max_sweeps": 2})
            g.check("resumed" not in said[0] and "begins anew" in said[1], f"{change}: goes on: {said}")


TESTS = [published, sbq, pgreedy, stability, sobol, optimal, paper_sizes, apart, ranks, mixed, sweeps, start, measures, boxes,
         nonnegative, polish, checkpoint, others]

g.main(__doc__, TESTS, flags={"all": "the slow ones too: every published run, more and larger descents"})
