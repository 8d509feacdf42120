"""A solve that is stopped or killed goes on from its checkpoint: the same answer, hardly more iterations, on any number of
ranks; damaged checkpoints and those of something else are said and not used."""
import os
import shutil
import signal

import h5py
import numpy as np

import gramarye as g

N = 2500
X = g.halton(N, 3)
Y = np.stack([np.sin(5 * X[:, 0]) + X[:, 1] * X[:, 2], np.cos(9 * X[:, 2])], 1)
Y += 0.1 * np.random.default_rng(3).standard_normal(Y.shape)
BASE = dict(data=dict(file="data.h5"), output=dict(file="out.h5"), kernel=dict(type="matern", nu=1.5, length_scale=0.6),
            ridge=dict(alpha=1e-2), solve_method="iterative", pc=dict(type="none"), ksp=dict(rtol=1e-8, max_it=20000))


def config(changes):
    return {**BASE, **{key: {**BASE.get(key, {}), **value} if isinstance(value, dict) else value
                       for key, value in changes.items()}}


def clean(folder):
    for name in "out.h5", "out.h5.checkpoint", "out.h5.checkpoint.old":
        path = os.path.join(folder, name)
        os.path.exists(path) and os.remove(path)


def solve(args, folder, what, changes=(), ranks=1, codes=(0,), options=()):
    r = g.run(args.program, "solve", config(dict(changes)), ranks, options, args.mpiexec, folder, timeout=120)
    out = os.path.join(folder, "out.h5")
    return (g.read(out) if g.succeeded(what, r, codes) and os.path.exists(out) else None), r


def interrupt(args, folder, changes, ranks, number, after):
    return g.interrupt(g.command(args.program, "solve", g.write_configs(config(changes), folder), ranks, mpiexec=args.mpiexec),
                       folder, number, after)


def stopped(args, folder):
    """USR1 and TERM: exit code 75, no output, a checkpoint; the same command on other ranks goes on from there."""
    methods = {"cg": {}, "lrv": {"pc": dict(type="lrv"), "data": dict(values="y1")},
               "mixed": {"product": dict(precision="mixed")}, "minres": {"ksp": dict(type="minres")}}
    for name, changes in methods.items():
        clean(folder)
        whole, _ = solve(args, folder, f"{name}, not stopped", changes)
        if whole is None:
            continue
        for number, ranks, again in (signal.SIGUSR1, 1, 2), (signal.SIGTERM, 1, 4), (signal.SIGUSR1, 2, 1):
            what = f"{name}, signal {number} on {ranks} ranks"
            seconds = 0.3 * float(whole["run@seconds_total"]) / ranks + 0.35
            for _ in range(5):  # too early is before the solve, too late after it
                clean(folder)
                code, out = interrupt(args, folder, changes, ranks, number, seconds)
                if code == 75:
                    break
                seconds *= 1.3 if code < 0 else 0.7
            if name == "lrv" and code != 75:
                continue  # over before a signal can meet it
            if not g.check(code == 75 and "stopped" in out, f"{what}: exit code {code}, said {out}"):
                continue
            g.check(os.path.exists(os.path.join(folder, "out.h5.checkpoint")), f"{what}: no checkpoint")
            g.check(not os.path.exists(os.path.join(folder, "out.h5")), f"{what}: an output")
            m, r = solve(args, folder, f"{what}, resumed on {again}", changes, again)
            if m is None:
                continue
            g.check("resumed" in r.out, f"{what}: does not say that it goes on: {r.out}")
            own, rounding = g.residual(m, Y[:, :1] if name == "lrv" else Y)
            g.check(own <= 1.01e-8 + rounding, f"{what}: residual {own:.3g}")
            total, alone = m["run@iterations"], whole["run@iterations"]
            share = 0.15 if name in ("cg", "lrv") else 0.5  # the others begin anew from x
            g.check(total <= (1 + share) * alone + 3, f"{what}: {total} iterations in all, {alone} when not stopped")
            g.check(not os.path.exists(os.path.join(folder, "out.h5.checkpoint")), f"{what}: the checkpoint is left")


def killed(args, folder):
    """kill -9 between checkpoints costs what came after the last one; a damaged last one costs one more."""
    changes = {"checkpoint": dict(interval=0.1)}
    clean(folder)
    whole, _ = solve(args, folder, "not killed", {})
    if whole is None:
        return
    saved, _ = solve(args, folder, "saved every 0.1 s", changes)
    if saved:
        most = 1.05 * whole["run@iterations"] + 2
        g.check(saved["run@iterations"] <= most, f"saved every 0.1 s: {saved['run@iterations']} iterations, at most {most}")
    new, old = (os.path.join(folder, "out.h5.checkpoint" + s) for s in ("", ".old"))
    for ranks in 1, 2:
        clean(folder)
        code, _ = interrupt(args, folder, changes, ranks, signal.SIGKILL, "out.h5.checkpoint.old")
        g.check(code not in (0, 75), f"kill -9 on {ranks} ranks: exit code {code}")
        if not g.check(os.path.exists(old), f"kill -9 on {ranks} ranks: no checkpoint"):
            continue
        kept = {path: open(path, "rb").read() for path in (new, old) if os.path.exists(path)}
        for damage in "none", "cut", "bits", "gone", "both":
            what = f"kill -9 on {ranks} ranks, newest {damage}"
            clean(folder)
            for path, data in kept.items():
                with open(path, "wb") as f:
                    f.write(data)
            if damage == "cut":
                os.path.exists(new) and os.truncate(new, 3000)
            elif damage == "gone":
                os.path.exists(new) and os.remove(new)
            for path in {"bits": [new], "both": [new, old]}.get(damage, []):
                if os.path.exists(path):
                    with h5py.File(path, "r+") as f:
                        f["x"][N // 2, 1] *= 1 + 1e-9
            m, r = solve(args, folder, what, changes, 2)
            if m is None:
                continue
            own, rounding = g.residual(m, Y)
            g.check(own <= 1.01e-8 + rounding, f"{what}: residual {own:.3g}")
            g.check(("resumed" in r.out) == (damage != "both"), f"{what}: said {r.out}")
            g.check(damage != "both" or any("damaged" in line for line in r.err), f"{what}: said {r.err}")


def others(args, folder):
    """A checkpoint of other data or another kernel is named and not used; restart false does not look."""
    clean(folder)
    code, _ = interrupt(args, folder, {"checkpoint": dict(interval=0.1)}, 1, signal.SIGKILL, "out.h5.checkpoint")
    path = os.path.join(folder, "out.h5.checkpoint")
    if not g.check(os.path.exists(path), f"no checkpoint, exit code {code}"):
        return
    shutil.copy(path, os.path.join(folder, "kept.h5"))
    fast = dict(ksp=dict(rtol=1e-2))
    for what, changes, said in (
            ("another ridge", {"ridge": dict(alpha=2e-2)}, "kernel"), ("another length", {"kernel": dict(length_scale=0.5)}, "kernel"),
            ("fewer rows", {"data": dict(limit=2000)}, "data"), ("one column", {"data": dict(values="y1")}, "data"),
            ("restart false", {"checkpoint": dict(restart="false")}, None)):
        clean(folder)
        shutil.copy(os.path.join(folder, "kept.h5"), path)
        m, r = solve(args, folder, what, {**fast, **changes})
        g.check(m is None or "resumed" not in r.out, f"{what}: goes on: {r.out}")
        g.check(m is None or any("checkpoint" in line and said in line for line in r.err) if said else not r.err,
                f"{what}: said {r.err}")
    for interval in "-1", "soon", "0":
        r = g.run(args.program, "solve", config({}), 1, ["-checkpoint_interval", interval], args.mpiexec, folder)
        g.check(r.code == 2 and any("checkpoint.interval" in line for line in r.err), f"interval {interval}: {r.code} {r.err}")


g.main(__doc__, [stopped, killed, others], {"data.h5": dict(x=X, y=Y, y1=Y[:, 0])})
