"""Leave-one-out residuals: refits without the point; estimates of iterative solves within the errors they state."""
import os

import numpy as np

import gramarye as g

N = 900
X = g.halton(N, 2)
Y = np.stack([np.sin(6 * X[:, 0]) * np.cos(5 * X[:, 1]), X[:, 0] + np.cos(9 * X[:, 1])], 1)
Y += 0.05 * np.random.default_rng(1).standard_normal(Y.shape)
DY = np.stack([6 * np.cos(6 * X[:, 0]) * np.cos(5 * X[:, 1]), -5 * np.sin(6 * X[:, 0]) * np.sin(5 * X[:, 1])], 1)
FILES = {"data.h5": dict(x=X, y=Y, y1=Y[:, 0], dy=DY)}
CASES = {"values": dict(data=dict(values="y1")), "two columns": dict(data=dict(standardize="both")),
         "tail": dict(data=dict(values="y1"), kernel=dict(type="cubic"), ridge=dict(alpha=1e-3)),
         "gradients": dict(data=dict(values="y1", gradients="dy"), kernel=dict(type="matern", nu=2.5, length_scale=0.3),
                           ridge=dict(alpha=1e-2, alpha_gradient=1.0))}


def config(changes, method, out):
    data = dict(file="data.h5", **changes.get("data", {}))
    return {"kernel": dict(type="matern", nu=1.5, length_scale=0.3), "ridge": dict(alpha=1e-2), **changes, "data": data,
            "solve_method": method, "output": dict(file=out, loo=True), "ksp": dict(rtol=1e-10)}


def solve(args, folder, what, c, ranks=1):
    r = g.run(args.program, "solve", c, ranks, mpiexec=args.mpiexec, folder=folder)
    return (g.read(os.path.join(folder, c["output"]["file"])), r) if g.succeeded(what, r) else (None, r)


def exact(args, folder):
    """Some points are left out for real."""
    for name, changes in CASES.items():
        m, r = solve(args, folder, name, config(changes, "direct", "out.h5"), 2)
        if not m:
            continue
        g.check("loo_error" not in m and "leave-one-out" in r.out, f"{name}: said {r.out}")
        loo = m["loo"].reshape(N, -1)
        g.close(f"{name}: loo_rms", m["loo_rms"], np.sqrt(np.mean(loo ** 2, 0)), 1e-12)
        if name == "gradients":  # a value alone cannot be left out of a run: whole points can
            loo = m["loo_block"].reshape(N, 1)
            g.close(f"{name}: loo_block_rms", m["loo_block_rms"], np.sqrt(np.mean(loo ** 2, 0)), 1e-12)
        if name == "two columns":  # a refit would be standardised differently
            continue
        for i in 0, 137, N - 1:
            keep = np.delete(np.arange(N), i)
            g.write(os.path.join(folder, "left.h5"), x=X[keep], y1=Y[keep, 0], dy=DY[keep], t=X[i:i + 1])
            c = config(changes, "direct", "left_out.h5")
            c["data"]["file"], c["target"] = "left.h5", dict(file="left.h5", points="t")
            c["output"]["loo"] = False
            left, _ = solve(args, folder, f"{name}: without {i}", c)
            if left:
                error = Y[i, 0] - left["target/mean"][0, 0]
                g.close(f"{name}: residual {i}", loo[i], [error], 1e-8, np.abs(loo).max())


def estimated(args, folder):
    """By 30 random vectors: as far off as stated, which is little; the same on any ranks but for rounding."""
    for name, changes in CASES.items():
        m, _ = solve(args, folder, name, config(changes, "direct", "out.h5"))
        first = None
        for ranks in 1, 3:
            what = f"{name}, estimated on {ranks} ranks"
            e, _ = solve(args, folder, what, config(changes, "iterative", "estimate.h5"), ranks)
            if not (m and e):
                continue
            off, said = np.abs(e["loo"] - m["loo"]), e["loo_error"]
            scale = np.abs(m["loo"]).max()
            # 30 vectors know their own scatter to 13 %; where it is nothing, rounding is left
            ratio = np.sqrt(np.mean(off ** 2)) / max(np.sqrt(np.mean(said ** 2)), 1e-7 * scale)
            g.check(ratio < 1.5, f"{what}: {ratio:.2f} times as far off as stated")
            g.check(np.mean(off <= 3 * said + 1e-6 * scale) > 0.97, f"{what}: beyond three standard errors too often")
            g.close(f"{what}: rms", e["loo_rms"], m["loo_rms"], 0.03)
            g.check("loo_block" not in e, f"{what}: a loo_block")
            if first is not None:
                g.close(f"{what}: against one rank", e["loo"], first, 1e-3)
            first = e["loo"]


g.main(__doc__, [exact, estimated], FILES)
