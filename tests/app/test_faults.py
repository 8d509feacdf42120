"""Faults made on purpose, a test for each line of README's table of them: no file is damaged, what is said is clear, and the
same command run again finishes with the right answer."""
import ctypes
import errno
import os
import resource
import signal
import subprocess
import sys
import time

import h5py
import numpy as np

import gramarye as g

PATIENCE = 60  # seconds for what takes one on an idle machine
OLD = b"the result of another run"
N, FEW, MANY = 2000, 300, 300000  # points; rows that are used of so many in a file that takes a while to read
X = g.halton(N, 3)
Y = np.stack([np.sin(5 * X[:, 0]) + X[:, 1] * X[:, 2], np.cos(9 * X[:, 2])], 1)
Y += 0.1 * np.random.default_rng(3).standard_normal(Y.shape)
WIDE = np.sin(np.outer(Y[:, 0], np.arange(1, 301)))  # a checkpoint of 9.6 MB, an output of 5
INDEX = np.arange(0, MANY, MANY // FEW)[:FEW]

# many iterations, so that there is time to meet a solve
SLOW = dict(data=dict(file="data.h5"), output=dict(file="out.h5"), kernel=dict(type="matern", nu=1.5, length_scale=0.6),
            ridge=dict(alpha=1e-2), solve_method="iterative", pc=dict(type="none"), ksp=dict(rtol=1e-8, max_it=20000),
            monitor=False)


def config(base, **changes):
    return {**base, **{key: {**base.get(key, {}), **value} if isinstance(value, dict) else value
                       for key, value in changes.items()}}


# ---- a run that something happens to -------------------------------------------------------------------------


class Run:
    """One run in the background, with its output in files of its folder."""

    def __init__(self, args, folder, what, config, ranks=1, verb="solve", **popen):
        self.folder, self.what = folder, what
        line = g.command(args.program, verb, g.write_configs(config, folder), ranks, mpiexec=args.mpiexec)
        with open(self.path("stdout"), "w") as out, open(self.path("stderr"), "w") as err:
            self.process = subprocess.Popen(line, cwd=folder, env={**os.environ, **g.ENVIRONMENT}, start_new_session=True,
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=err, **popen)

    def path(self, name):
        return os.path.join(self.folder, name)

    def said(self):
        with open(self.path("stdout")) as out, open(self.path("stderr"), errors="replace") as err:
            return out.read(), g.without_noise(err.read())[0]

    def has(self, name):
        """Has a rank that file open?"""
        return any(os.path.realpath(self.path(name)) in files_of(pid) for pid in g.ranks_of(self.process))

    def wait_until(self, condition):
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            if condition():
                return True
        return False

    def hold(self):
        """Stops the ranks where they are; returns them."""
        ranks = g.ranks_of(self.process)
        for pid in ranks:
            signal_to(pid, signal.SIGSTOP)
        end = time.monotonic() + PATIENCE
        while not all(state_of(pid) in "TZX" for pid in ranks) and time.monotonic() < end:
            time.sleep(0.001)
        return ranks

    def go_on(self, ranks):
        for pid in ranks:
            signal_to(pid, signal.SIGCONT)

    def end(self):
        """Its exit code; by itself, or it is a failure."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            g.check(False, f"{self.what}: still runs after {PATIENCE} s")
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()


def signal_to(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def files_of(pid):
    folder, found = f"/proc/{pid}/fd", set()
    try:
        for number in os.listdir(folder):
            found.add(os.readlink(os.path.join(folder, number)))
    except OSError:
        pass  # gone meanwhile
    return found


def contents(path):
    with open(path, "rb") as f:
        return f.read()


def fresh(folder):
    """As before the first run, with an old output."""
    for name in os.listdir(folder):
        if name.startswith("out.h5"):
            os.remove(os.path.join(folder, name))
    with open(os.path.join(folder, "out.h5"), "wb") as f:
        f.write(OLD)


def untouched(folder, what, name="out.h5"):
    path = os.path.join(folder, name)
    g.check(os.path.exists(path) and contents(path) == OLD, f"{what}: the old output is not what it was")


def right(folder, what, y, name="out.h5"):
    try:
        m = g.read(os.path.join(folder, name))
    except OSError as e:
        return g.check(False, f"{what}: {e}")
    own, rounding = g.residual(m, y)
    return g.check(m["run@converged"] == 1 and own <= 1.01e-8 + rounding, f"{what}: residual {own:.3g}")


def again(args, folder, what, config, y, ranks=1, name="out.h5"):
    """The same command finishes, and of the first run nothing is left; returns what it says."""
    r = g.run(args.program, "solve", config, ranks, mpiexec=args.mpiexec, folder=folder, timeout=PATIENCE)
    if g.succeeded(f"{what}: run again", r):
        right(folder, f"{what}: run again", y, name)
        left = [n for n in os.listdir(os.path.dirname(os.path.join(folder, name)) or folder)
                if n.startswith("out.h5") and n != "out.h5"]
        g.check(not left, f"{what}: run again: {left} are left")
    return r


# ---- kill -9 of a rank ---------------------------------------------------------------------------------------


def killed(args, folder, phase, config, reached, y):
    """On one rank, and either of two: held when reached(run), killed when that still holds."""
    for ranks, victim in (1, 0), (2, 0), (2, 1):
        what = f"rank {victim} of {ranks} killed, {phase}"
        for _ in range(5):
            fresh(folder)
            run = Run(args, folder, what, config, ranks)
            run.wait_until(lambda: reached(run))
            pids = run.hold()
            if len(pids) == ranks and reached(run):
                break
            run.go_on(pids)
            run.end()
        else:
            g.check(False, f"{what}: that phase was never met")
            continue
        os.kill(pids[victim], signal.SIGKILL)
        run.go_on(pids)
        code = run.end()
        g.check(code not in (0, 2, 3, 4, 75), f"{what}: exit code {code}")
        untouched(folder, what)
        r = again(args, folder, what, config, y, ranks)
        g.check(("resumed" in r.out) == (phase == "solving"), f"{what}: run again: {r.out}")


def killed_reading(args, folder):
    c = config(SLOW, data=dict(file="large.h5", index="i", values="y"), pc=dict(type="lrv"))
    killed(args, folder, "reading", c, lambda run: run.has("large.h5"), large(folder, "large.h5")[1][INDEX])


def killed_setting_up(args, folder):
    """Between what it says before the set-up of the preconditioner, and a checkpoint after the first iteration."""
    c = config(SLOW, pc=dict(type="lrv", lrv_rank=700, lrv_neighbors=60), checkpoint=dict(interval=1e-9))
    killed(args, folder, "setting up", c,
           lambda run: "estimate" in run.said()[0] and not os.path.exists(run.path("out.h5.checkpoint")), Y)


def killed_solving(args, folder):
    c = config(SLOW, checkpoint=dict(interval=0.05))
    killed(args, folder, "solving", c, lambda run: os.path.exists(run.path("out.h5.checkpoint.old")), Y)


def killed_writing(args, folder):
    c = config(SLOW, data=dict(limit=FEW), target=dict(grid=[80, 80, 80]))
    killed(args, folder, "writing", c, lambda run: os.path.exists(run.path("out.h5.part")), Y[:FEW])


def launcher_killed(args, folder):
    """mpiexec alone: its ranks go on, beside the run again, which neither waits for them nor takes their file for its own."""
    c = config(SLOW, checkpoint=dict(interval=0.01))
    met = 0
    for attempt in range(5):
        what = f"mpiexec killed, attempt {attempt}"
        fresh(folder)
        run = Run(args, folder, what, c, 2)
        run.wait_until(lambda: os.path.exists(run.path("out.h5.checkpoint.old")))
        pids = g.ranks_of(run.process)
        run.process.kill()
        run.end()
        met += all(os.path.exists(f"/proc/{pid}") for pid in pids)
        r = g.run(args.program, "solve", c, 2, mpiexec=args.mpiexec, folder=folder, timeout=PATIENCE)
        if g.succeeded(f"{what}: run again", r, (0, 4)):  # 4 when both are writing the result: then the other's is taken
            g.check(r.code == 0 or "another run" in r.err[-1], f"{what}: run again: {r.err}")
            r.code == 0 and right(folder, f"{what}: run again", Y)
        for pid in pids:
            signal_to(pid, signal.SIGKILL)
    g.check(met > 0, "ranks never outlived mpiexec: nothing was tested")


# ---- an input that is cut while it is read -------------------------------------------------------------------


def large(folder, name, values="y", columns=(), add=lambda f: None):
    """x in chunks that have to be unpacked, the rows i that are used, and at the end values; returns the whole of both."""
    rng = np.random.default_rng(5)
    x = rng.random((MANY, 2))
    y = np.sin(6 * x[:, 0]) + x[:, 1]
    with h5py.File(os.path.join(folder, name), "w") as f:
        f.create_dataset("x", data=x, chunks=(10000, 2), compression="gzip", compression_opts=1)
        f["i"] = INDEX
        add(f)
        f.flush()
        f[values] = y.reshape(-1, *columns)
    return x, y


def cut(args, folder, name, verb, config, same, values="y"):
    """At moments from when it is open until it is read: refused by name, or the right answer; never half an output."""
    whole = contents(os.path.join(folder, name))
    with h5py.File(os.path.join(folder, name), "r") as f:
        # before the values, which MPI would read as zeros; within the points; before everything
        places = f[values].id.get_offset(), len(whole) // 3, 0
    r = g.run(args.program, verb, config, mpiexec=args.mpiexec, folder=folder)
    if not g.succeeded(f"{name} left alone", r):
        return
    same(f"{name} left alone")
    reading, refused = 0.5 * r.seconds, 0
    for i, place in enumerate((0, 0, 1, 0, 0, 2, 0, 1)):
        ranks, size = 1 + i % 2, places[place]
        what = f"{name} cut to {size} bytes while {ranks} read it, moment {i}"
        fresh(folder)
        with open(os.path.join(folder, name), "wb") as f:
            f.write(whole)
        run = Run(args, folder, what, config, ranks, verb)
        run.wait_until(lambda: run.has(name))
        time.sleep(reading * (i / 8) ** 3)
        os.truncate(os.path.join(folder, name), size)
        code, (_, err) = run.end(), run.said()
        if code == 0:
            same(what)
            continue
        refused += 1
        g.check(code == 2 and len(err) == 1 and name in err[0], f"{what}: exit code {code}, said {err}")
        untouched(folder, what)
        g.check(not os.path.exists(os.path.join(folder, "out.h5.part")), f"{what}: part of an output is left")
    g.check(refused > 0, f"{name}: never cut while it was read: nothing was tested")
    with open(os.path.join(folder, name), "wb") as f:
        f.write(whole)
    r = g.run(args.program, verb, config, mpiexec=args.mpiexec, folder=folder)
    if g.succeeded(f"{name} whole again", r):
        same(f"{name} whole again")


def cut_data(args, folder):
    _, y = large(folder, "large.h5")
    c = config(SLOW, data=dict(file="large.h5", index="i"), pc=dict(type="lrv"))
    cut(args, folder, "large.h5", "solve", c, lambda what: right(folder, what, y[INDEX]))


def same_prediction(folder, what, model, t, y=None):
    m = g.read(os.path.join(folder, "out.h5"))
    mean = g.evaluate(model or m, t)
    g.close(what, m["target/mean"], mean, 1e-9)  # sums of 3e5 terms
    if y is not None:
        g.close(f"{what}: rmse", m["target/rmse"], [np.sqrt(np.mean((mean[:, 0] - y) ** 2))], 1e-6)


def cut_targets(args, folder):
    x, y = large(folder, "large.h5")
    g.write(os.path.join(folder, "small.h5"), x=x[:FEW], y=y[:FEW])
    c = config(SLOW, data=dict(file="small.h5"), pc=dict(type="lrv"), target=dict(file="large.h5", index="i", values="y"))
    cut(args, folder, "large.h5", "solve", c, lambda what: same_prediction(folder, what, None, x[INDEX], y[INDEX]))


def cut_model(args, folder):
    """A model of many points, made here."""
    def add(f):
        for key, value in dict(type="matern", nu=1.5, length_scale=0.1, amplitude=1.0, ridge_alpha=1.0,
                               ridge_alpha_gradient=1.0, tail_degree=-1.0).items():
            f.require_group("kernel").attrs[key] = value
        for key, size in dict(point=2, value=1).items():
            f[f"scaling/{key}_shift"], f[f"scaling/{key}_scale"] = np.zeros(size), np.ones(size)
        f["scaling"].attrs["sphere"] = 0

    x, _ = large(folder, "large.h5", "coefficients", (1,), add)
    model, t = g.read(os.path.join(folder, "large.h5")), x[:7]
    g.write(os.path.join(folder, "small.h5"), x=t)
    c = dict(model=dict(file="large.h5"), target=dict(file="small.h5"), output=dict(file="out.h5"))
    cut(args, folder, "large.h5", "predict", c, lambda what: same_prediction(folder, what, model, t),
        "coefficients")


# ---- no room -------------------------------------------------------------------------------------------------


def limited():
    """In the child: no file beyond 8 MiB, as on a disk that has no more; MPI needs 4 itself."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))


def output_too_large(args, folder):
    """Known before the solve, so that nothing is lost."""
    fresh(folder)
    c = config(SLOW, target=dict(grid=[100, 100, 100]), checkpoint=dict(interval=0.01))
    r = g.run(args.program, "solve", c, folder=folder, preexec_fn=limited)
    g.check(r.code == 4 and "estimate" in r.out, f"output too large: {r.code} {r.out}")
    g.check(not os.path.exists(os.path.join(folder, "out.h5.checkpoint")), "output too large: after a solve")
    g.check(len(r.err) == 1 and "out.h5'" in r.err[0] and "File too large" in r.err[0], f"output too large: {r.err}")
    untouched(folder, "output too large")
    g.check(not os.path.exists(os.path.join(folder, "out.h5.part")), "output too large: part of it is left")


def checkpoint_too_large(args, folder):
    """The solve goes on, and says it once; a signal ends it with exit code 4."""
    c = config(SLOW, data=dict(values="wide"), ridge=dict(alpha=1), checkpoint=dict(interval=0.05))
    wanted = lambda err: len(err) == 1 and "out.h5.checkpoint'" in err[0] and "File too large" in err[0]
    fresh(folder)
    r = g.run(args.program, "solve", c, folder=folder, preexec_fn=limited)
    if g.succeeded("checkpoint too large", r):
        right(folder, "checkpoint too large", WIDE)
        g.check(wanted(r.err) and "warning" in r.err[0], f"checkpoint too large: {r.err}")
    fresh(folder)
    run = Run(args, folder, "signal, checkpoint too large", config(c, checkpoint=dict(interval="none")), preexec_fn=limited)
    run.wait_until(lambda: "estimate" in run.said()[0])
    run.process.send_signal(signal.SIGUSR1)
    code, (_, err) = run.end(), run.said()
    g.check(code == 4 and wanted(err), f"signal, checkpoint too large: {code} {err}")
    untouched(folder, "signal, checkpoint too large")


def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


class SmallDisk:
    """folder/small is a disk of 6 MB, for this process and those it starts."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "small")
        os.makedirs(self.path)

    def __enter__(self):
        try:
            call("unshare", 0x00020000)  # CLONE_NEWNS: mounts of its own,
            call("mount", b"none", b"/", None, 0x4000 | 0x40000, None)  # MS_REC | MS_PRIVATE, that nobody else sees
            call("mount", b"none", self.path.encode(), b"tmpfs", 0, b"size=6m")
        except OSError as e:
            print(f"not tested, this user may not mount a small disk: {e}")
            sys.exit(g.SKIPPED)
        fresh(self.path)
        return self

    def __exit__(self, *_):
        call("umount2", self.path.encode(), 2)  # MNT_DETACH

    def fill(self):
        with open(os.path.join(self.path, "filler"), "ab", buffering=0) as f:
            for size in 65536, 4096, 1:
                try:
                    while f.write(bytes(size)) == size:
                        pass
                except OSError as e:
                    if e.errno != errno.ENOSPC:
                        raise
        return True

    def empty(self):
        os.remove(os.path.join(self.path, "filler"))


def said_full(err, name):
    return len(err) == 1 and f"{name}'" in err[0] and "No space left on device" in err[0]


def full_before(args, folder):
    """Before the solve, which takes no time then."""
    c = config(SLOW, output=dict(file="small/out.h5"), checkpoint=dict(file="saved.h5", interval=0.01))
    with SmallDisk(folder) as disk:
        disk.fill()
        for ranks in 1, 2:
            what = f"full before, {ranks} ranks"
            r = g.run(args.program, "solve", c, ranks, mpiexec=args.mpiexec, folder=folder)
            g.check(r.code == 4 and said_full(r.err, "small/out.h5"), f"{what}: {r.code} {r.err}")
            g.check(not os.path.exists(os.path.join(folder, "saved.h5")), f"{what}: after a solve: {r.out}")
            untouched(folder, what, "small/out.h5")
            g.check(sorted(os.listdir(disk.path)) == ["filler", "out.h5"], f"{what}: {os.listdir(disk.path)}")
        disk.empty()
        again(args, folder, "full before", c, Y, 2, "small/out.h5")


def full_output(args, folder):
    """After the solve has begun: the old output stays, and the last checkpoint is there to go on from."""
    c = config(SLOW, output=dict(file="small/out.h5"), checkpoint=dict(file="saved.h5", interval=0.05))
    saved = os.path.join(folder, "saved.h5")
    with SmallDisk(folder) as disk:
        for ranks in 1, 2:
            what = f"full at the output, {ranks} ranks"
            fresh(disk.path)
            run = Run(args, folder, what, c, ranks)
            run.wait_until(lambda: os.path.exists(saved))
            disk.fill()
            code, (_, err) = run.end(), run.said()
            g.check(code == 4 and said_full(err, "small/out.h5"), f"{what}: {code} {err}")
            untouched(folder, what, "small/out.h5")
            g.check(sorted(os.listdir(disk.path)) == ["filler", "out.h5"], f"{what}: {os.listdir(disk.path)}")
            disk.empty()
            r = again(args, folder, what, c, Y, ranks, "small/out.h5")
            g.check("resumed" in r.out, f"{what}: run again: {r.out}")


def full_checkpoint(args, folder):
    """The solve goes on, with a line, and the checkpoint of before is good to go on from; a signal then is exit code 4."""
    c = config(SLOW, checkpoint=dict(file="small/saved.h5", interval=0.05))
    saved = os.path.join(folder, "small", "saved.h5")
    with SmallDisk(folder) as disk:
        for ranks, number, wanted in (1, None, 0), (2, None, 0), (1, signal.SIGUSR1, 4), (2, signal.SIGKILL, None):
            what = f"full at a checkpoint, {ranks} ranks, signal {number}"
            fresh(folder)
            run = Run(args, folder, what, c, ranks)
            run.wait_until(lambda: os.path.exists(saved))
            warned = run.wait_until(lambda: disk.fill() and any("warning" in line for line in run.said()[1]))
            if number:
                signal_to(g.ranks_of(run.process)[0], number)
            code, (_, err) = run.end(), run.said()
            g.check(warned and said_full(err[:1], "small/saved.h5") and "goes on without" in err[0], f"{what}: {err}")
            g.check(code == wanted if wanted is not None else code != 0, f"{what}: exit code {code}")
            if wanted == 0:
                right(folder, what, Y)
                g.check(len(err) == 1, f"{what}: {err}")
                g.check(sorted(os.listdir(disk.path)) == ["filler", "out.h5"], f"{what}: {os.listdir(disk.path)}")
                disk.empty()
                continue
            untouched(folder, what)
            g.check(number == signal.SIGKILL or said_full(err[1:], "small/saved.h5"), f"{what}: {err}")
            disk.empty()
            r = again(args, folder, what, c, Y, ranks)
            g.check("resumed" in r.out, f"{what}: run again: {r.out}")


g.main(__doc__, [killed_reading, killed_setting_up, killed_solving, killed_writing, launcher_killed, cut_data, cut_targets, cut_model,
                 output_too_large, checkpoint_too_large, full_before, full_output, full_checkpoint],
       {"data.h5": dict(x=X, y=Y, wide=WIDE)})
