"""kill -9 at any moment leaves the old output or the new one whole under the output's name, and the next run works."""
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

import numpy as np

import gramarye as g

N, GRID = 3000, [300, 300]  # a second or so, and 2 MB of predictions to be caught writing


def config(folder, alpha):
    return dict(data=dict(file=os.path.join(folder, "data.h5")), target=dict(grid=GRID),
                kernel=dict(type="exponential", length_scale=0.5), ridge=dict(alpha=alpha), pc=dict(type="none"),
                solve_method="iterative", ksp=dict(rtol=1e-10), output=dict(file=os.path.join(folder, "out.h5")))


def same(what, m, complete):
    """Everything that does not depend on the clock."""
    if m.keys() == complete.keys() and m["kernel@ridge_alpha"] == complete["kernel@ridge_alpha"]:
        g.check(np.array_equal(m["x"], complete["x"]), f"{what}: x differs")
        for name in "coefficients", "target/x", "target/mean":
            g.close(f"{what}: {name}", m[name], complete[name], 1e-7)  # rtol 1e-10 times the condition number, 1e3
        return True
    return False


def start(args, folder, paths, ranks):
    line = g.command(args.program, "solve", paths, ranks, mpiexec=args.mpiexec)
    return subprocess.Popen(line, cwd=folder, env={**os.environ, **g.ENVIRONMENT}, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def kill(process, ranks):
    victims = g.ranks_of(process)
    if victims:
        try:
            os.kill(random.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            pass
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        g.check(False, f"{ranks} ranks: mpiexec still runs 30 s after a rank was killed")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_writing(process, folder, known):
    """Until the output's temporary file appears (other new files are MPI's, which tests locks beside the input)."""
    while process.poll() is None:
        if any(name not in known and "out" in name for name in os.listdir(folder)):
            return
        time.sleep(0)


def kills(args, folder, ranks, spread, late):
    what = f"{ranks} ranks"
    out, saved = (os.path.join(folder, name) for name in ("out.h5", "saved.h5"))
    first = g.run(args.program, "solve", config(folder, 0.5), ranks, mpiexec=args.mpiexec, folder=folder)
    if not g.succeeded(f"{what}: the run to be replaced", first):
        return
    old = g.read(out)
    shutil.copy(out, saved)
    second = g.run(args.program, "solve", config(folder, 0.25), ranks, mpiexec=args.mpiexec, folder=folder)
    if not g.succeeded(f"{what}: the run to be killed", second):
        return
    new = g.read(out)
    paths = [os.path.join(folder, "config0.yaml")]

    # late kills wait for the temporary file to appear, so those that earlier ones left must go; some runs meet them
    given = set(os.listdir(folder))
    moments = [second.seconds * (i + random.random()) / spread for i in range(spread)] + ["writing"] * late
    outcomes = []
    for moment in moments:
        shutil.copy(saved, out)
        for name in set(os.listdir(folder)) - given if moment == "writing" else ():
            os.remove(os.path.join(folder, name))
        known = set(os.listdir(folder))
        process = start(args, folder, paths, ranks)
        if moment == "writing":
            wait_for_writing(process, folder, known)
            time.sleep(random.choice((0, random.uniform(0, 0.003), random.uniform(0, 0.02))))
        else:
            time.sleep(moment)
        kill(process, ranks)
        when = f"{what}: killed {moment}" + (" s after its start" if moment != "writing" else "")
        try:
            m = g.read(out)
        except (OSError, KeyError, RuntimeError) as e:
            g.check(False, f"{when}: output is broken: {e}")
            continue
        left = len(set(os.listdir(folder)) - known)
        if same(when, m, old):
            outcomes.append("old" if not left else "old with a temporary file")
        else:
            g.check(same(when, m, new), f"{when}: output is neither the old nor the new one")
            outcomes.append("new")
    if args.verbose:
        print(f"{what}, {second.seconds:.2f} s a run:", {o: outcomes.count(o) for o in set(outcomes)})
    g.check(any(o.startswith("old") for o in outcomes), f"{what}: no kill left the old output: nothing was tested")

    again = g.run(args.program, "solve", config(folder, 0.25), ranks, mpiexec=args.mpiexec, folder=folder)
    if g.succeeded(f"{what}: run after the kills", again):
        g.check(same(f"{what}: run after the kills", g.read(out), new), f"{what}: run after the kills: other output")


def main():
    p = g.parser(__doc__)
    p.add_argument("--seed", type=int, default=random.randrange(10 ** 6))
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    random.seed(args.seed)
    x = g.halton(N, 2)
    for ranks, spread, late in (1, 14, 12), (2, 5, 4):
        with tempfile.TemporaryDirectory() as folder:
            g.write(os.path.join(folder, "data.h5"), x=x, y=np.sin(6 * x[:, 0]) + x[:, 1])
            kills(args, folder, ranks, spread, late)
    if g.failures:
        print(f"again: --seed {args.seed}")
    g.finish()


main()
