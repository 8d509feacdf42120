"""What a cluster does to a running solve, on the SLURM of cluster.py: the time limit, scancel, requeue, a node drained and a
node that goes down. The job ends with the right answer, or its checkpoint is there for the next one.

Ranks are held (SIGSTOP) once there is a checkpoint, until SLURM has done what it is to do: a long solve that costs nothing.
"""
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np

import test_jobs as jobs
from test_jobs import Job, ask, g

PATIENCE = 90  # seconds: SLURM looks at time limits every 30
N = 2500
X = g.halton(N, 3)
Y = np.sin(5 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * np.random.default_rng(3).standard_normal(N)
CONFIG = dict(data=dict(file="data.h5"), output=dict(file="out.h5"), kernel=dict(type="matern", nu=1.5, length_scale=0.6),
              ridge=dict(alpha=1e-2), solve_method="iterative", pc=dict(type="none"), ksp=dict(rtol=1e-8, max_it=20000),
              checkpoint=dict(interval=0.05))


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    sys.exit(f"{what}: not in {PATIENCE} s")


def prepare(root, name):
    folder = os.path.join(root, name)
    os.mkdir(folder)
    g.write(os.path.join(folder, "data.h5"), x=X, y=Y)
    return g.write_configs(CONFIG, folder)[0]


def submit(config, *options, n=2):
    root = os.path.dirname(os.path.dirname(config))
    return Job(root, "-n", n, *options, "jobs/solve.sbatch", config, wait=False)


def ranks_of(config):
    """The processes of that solve, on whatever node."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                words = f.read().split("\0")
            if os.path.basename(words[0]) == "gramarye" and config in words:
                found.append(int(pid))
        except OSError:
            pass  # gone meanwhile
    return found


def hold(config, n=2):
    """All ranks of a solve that has saved its state twice, stopped."""
    old = os.path.join(os.path.dirname(config), "out.h5.checkpoint.old")
    until(f"checkpoint of {config}", lambda: os.path.exists(old))
    ranks = until(f"ranks of {config}", lambda: len(ranks_of(config)) == n and ranks_of(config))
    send(ranks, signal.SIGSTOP)
    return ranks


def send(ranks, number):
    for pid in ranks:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def told(pid, number):
    """Has a process that is stopped got that signal? SLURM may let it go on, and to its end, by itself."""
    try:
        with open(f"/proc/{pid}/status") as f:
            bits = [int(line.split()[1], 16) for line in f if line.startswith(("SigPnd", "ShdPnd"))]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return any(b >> (number - 1) & 1 for b in bits)


def node_of(job):
    return until(f"node of job {job.id}", lambda: job.ask()[0]["JobState"] == "RUNNING" and job.ask()[0]["NodeList"])


def node_set(name, *state):
    p = subprocess.run(["scontrol", "update", f"NodeName={name}", *state], capture_output=True, text=True, timeout=jobs.LIMIT)
    g.check(p.returncode == 0, f"node {name} {state}: {p.stderr}")


def node_state(name):
    return ask("sinfo", "-h", "-n", name, "-o", "%T").strip()


def finished(what, job, config, resumed, restarts=0):
    """The right answer, from the log and the file; no checkpoint is left."""
    job.wait(PATIENCE)
    job.ended(what)
    folder = os.path.dirname(config)
    if g.check(os.path.exists(os.path.join(folder, "out.h5")), f"{what}: no output: {job.log}"):
        m = g.read(os.path.join(folder, "out.h5"))
        own, rounding = g.residual(m, Y)
        g.check(m["run@converged"] == 1 and own <= 1.01e-8 + rounding, f"{what}: residual {own:.3g}")
    g.check(("resumed" in job.log) == resumed, f"{what}: goes on: {job.log}")
    g.check(int(job.words["Restarts"]) >= restarts, f"{what}: {job.words['Restarts']} restarts")
    left = [name for name in os.listdir(folder) if name not in ("config0.yaml", "data.h5", "out.h5")]
    g.check(not left, f"{what}: {left} are left")


def same_iteration(what, log):
    """Where one run stopped another goes on."""
    stopped, resumed = (re.findall(rf"^{word} .*after (\d+) iterations", log, re.M) for word in ("stopped", "resumed"))
    g.check(stopped and stopped[:1] == resumed[:1], f"{what}: stopped after {stopped}, goes on after {resumed}: {log}")


# ---- the faults ----------------------------------------------------------------------------------------------


def time_limit(root):
    """One minute for a solve that takes longer: USR1 before it is up, a checkpoint, 75, back into the queue, done."""
    config = prepare(root, "time")
    job = submit(config, "--time=1")
    ranks = hold(config)
    until("USR1 before the time limit", lambda: all(told(pid, signal.SIGUSR1) for pid in ranks))
    send(ranks, signal.SIGCONT)
    finished("time limit", job, config, True, 1)
    same_iteration("time limit", job.log)


def scancelled(root):
    """TERM writes a checkpoint; the job does not come back, another goes on from there."""
    config = prepare(root, "cancel")
    job = submit(config)
    ranks = hold(config)
    subprocess.run(["scancel", job.id], timeout=jobs.LIMIT)
    send(ranks, signal.SIGCONT)
    job.wait(PATIENCE)
    g.check(job.state == "CANCELLED" and not ranks_of(config), f"scancel: {job.state}: {job.log}")
    g.check(not os.path.exists(os.path.join(root, "cancel", "out.h5")), "scancel: an output")
    late = submit(config)
    finished("after scancel", late, config, True)
    same_iteration("after scancel", job.log + late.log)
    g.check(job.ask()[0]["JobState"] == "CANCELLED", f"scancel: came back as {job.ask()[0]['JobState']}")


def requeued(root):
    """scontrol requeue while it runs: TERM, a checkpoint, and the same job goes on from there."""
    config = prepare(root, "again")
    job = submit(config)
    ranks = hold(config)
    ask("scontrol", "requeue", job.id)
    send(ranks, signal.SIGCONT)
    finished("requeued", job, config, True, 1)
    same_iteration("requeued", job.log)


def drained(root):
    """What runs there runs to its end, what comes goes elsewhere."""
    config, other = prepare(root, "drained"), prepare(root, "elsewhere")
    job = submit(config)
    ranks, node = hold(config), node_of(job)
    node_set(node, "State=DRAIN", "Reason=test")
    try:
        late = submit(other)
        where = node_of(late)
        g.check(where != node and node_state(node) == "draining", f"drain: {node} {node_state(node)}, new job on {where}")
        finished("beside a drained node", late, other, False)
        send(ranks, signal.SIGCONT)
        finished("on a drained node", job, config, False)
        g.check(job.words["NodeList"] == node, f"drain: {job.words['NodeList']}, not {node}")
    finally:
        send(ranks, signal.SIGCONT)
        node_set(node, "State=RESUME")


def node_down(root):
    """Its ranks are killed where they are; the job goes on from the last checkpoint on the other node."""
    config = prepare(root, "down")
    job = submit(config)
    ranks, node = hold(config), node_of(job)
    node_set(node, "State=DOWN", "Reason=test")
    try:
        finished("node down", job, config, True, 1)
        g.check(job.words["NodeList"] != node, f"node down: ran on {job.words['NodeList']}, which was down")
    finally:
        node_set(node, "State=RESUME")
        send(ranks, signal.SIGKILL)


if __name__ == "__main__":
    jobs.main(__doc__, (time_limit, scancelled, requeued, drained, node_down))
