"""A SLURM of two nodes on this host, for the tests beside this file:  cluster.py start|stop FOLDER

FOLDER gets the logs and a link `state` to slurm.conf and all else that the daemons write. No systemd, cgroups, database
or root: munged, slurmctld and a slurmd per node run as the caller, below one keeper process. The keeper ends them, and
all that their jobs have started, on `stop`, when a daemon dies, when the process that called `start` is gone, or after
LIFETIME. Exit codes: 0, 1 with the ends of the logs, 77 when SLURM is not installed.
"""
import ctypes
import glob
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

NODES, CPUS, GPUS = 2, 4, 2  # each node claims these, whatever the host has
LIFETIME, PATIENCE = 3600, 30  # seconds: of the cluster, and until its nodes are up
SKIPPED = 77

os.environ["PATH"] += ":/usr/sbin:/sbin"  # where distributions put daemons

# TmpFS: PMIx keeps the files of a step there, and nodes must not share them.
# cred_expire: a requeued job waits that long, 120 s by default. SlurmdTimeout: a stalled host is no failed node.
# GPUs are empty files in place of devices. MinJobAge: `scontrol show job` knows jobs that have ended.
CONF = """\
ClusterName=gramarye
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={state}/munge.sock,cred_expire=5
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/%n
TmpFS={state}/%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/%n.pid
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=1
SlurmdTimeout=0
MessageTimeout=60
KillWait=5
MinJobAge=86400
MailProg=/bin/true
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = ("NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} "
        "RealMemory={mb} Gres=gpu:{gpus} State=UNKNOWN")


def names():
    return [f"node{i + 1}" for i in range(NODES)]


def free_ports(n):
    """The first of n free ports in a row, below those that the kernel hands out."""
    for _ in range(100):
        first, held = random.randrange(16000, 31000), []
        try:
            for port in range(first, first + n):
                held.append(socket.socket())
                held[-1].bind(("", port))
            return first
        except OSError:
            pass
        finally:
            for s in held:
                s.close()
    sys.exit("cluster.py: no free ports")


def configure(state):
    host, port, user = socket.gethostname().split(".")[0], free_ports(NODES + 1), subprocess.getoutput("id -un")
    mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    nodes = [NODE.format(name=name, host=host, port=port + 1 + i, cpus=CPUS, mb=mb, gpus=GPUS)
             for i, name in enumerate(names())]
    files = {"slurm.conf": CONF.format(state=state, host=host, port=port, user=user, nodes="\n".join(nodes)),
             "gres.conf": f"AutoDetect=off\nName=gpu File={state}/gpu[0-{GPUS - 1}]\n"}
    version = re.search(r"(\d+)\.(\d+)", subprocess.getoutput("slurmd -V"))
    if version and (int(version[1]), int(version[2])) >= (24, 5):  # before, unused cgroups were not looked for
        files["cgroup.conf"] = "CgroupPlugin=disabled\n"
    files.update((f"gpu{i}", "") for i in range(GPUS))
    for name, text in files.items():
        with open(os.path.join(state, name), "w") as f:
            f.write(text)
    for name in ["controller", *names()]:
        os.mkdir(os.path.join(state, name))
    with open(os.open(os.path.join(state, "munge.key"), os.O_CREAT | os.O_WRONLY, 0o600), "wb") as f:
        f.write(os.urandom(1024))


def stat(pid):
    """State, parent and start time of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return fields[0], int(fields[1]), fields[19]
    except (OSError, IndexError):
        return None


def born(pid):
    """Its start time, which tells it from a later process of that number; None when it has ended."""
    s = stat(pid)
    return s[2] if s and s[0] != "Z" else None


def below(ancestor):
    """Processes that descend from it, zombies aside."""
    found, table = {ancestor}, {int(p): stat(p) for p in os.listdir("/proc") if p.isdigit()}
    while True:
        more = {pid for pid, s in table.items() if s and s[0] != "Z" and s[1] in found} - found
        if not more:
            return found - {ancestor}
        found |= more


def end_all():
    """TERM, after 3 seconds KILL; orphans of a daemon are handed to the keeper, so that none gets away."""
    for seconds, number in (3, signal.SIGTERM), (10, signal.SIGKILL):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            left = below(os.getpid())
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
            reap()


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def keep(folder, caller):
    """The keeper: start daemons, wait for a reason to end, end them."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans below become children
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    state, link, birth = tempfile.mkdtemp(prefix="slurm"), os.path.join(folder, "state"), born(caller)
    try:
        os.chmod(state, 0o755)
        configure(state)
        os.environ["SLURM_CONF"] = os.path.join(state, "slurm.conf")
        inside = lambda name: os.path.join(state, name)
        daemons = []

        def launch(name, *command):
            with open(os.path.join(folder, name + ".log"), "w") as log:
                daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

        # --force: munged dislikes folders that others can write to, such as the parent of this one
        launch("munged", "munged", "--foreground", "--force", "--num-threads=2", "--key-file=" + inside("munge.key"),
               "--socket=" + inside("munge.sock"), "--pid-file=" + inside("munged.pid"),
               "--seed-file=" + inside("munge.seed"), "--log-file=" + inside("munged.log"))
        until = time.monotonic() + LIFETIME
        while not os.path.exists(inside("munge.sock")) and daemons[0].poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        launch("slurmctld", "slurmctld", "-D", "-i")
        for name in names():
            launch(name, "slurmd", "-D", "-N", name)
        os.symlink(state, link)
        while time.monotonic() < until and born(caller) == birth:
            if any(d.poll() is not None for d in daemons):
                sys.exit(1)
            time.sleep(0.2)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_all()
        shutil.rmtree(state, ignore_errors=True)
        for name in link, os.path.join(folder, "keeper.pid"):
            if os.path.lexists(name):
                os.remove(name)


def up(folder):
    """Do all nodes take jobs?"""
    conf = os.path.join(folder, "state", "slurm.conf")
    p = subprocess.run(["sinfo", "-h", "-N", "-t", "idle", "-o", "%N"], env={**os.environ, "SLURM_CONF": conf},
                       capture_output=True, text=True, timeout=PATIENCE) if os.path.exists(conf) else None
    return p is not None and set(p.stdout.split()) == set(names())


def installed():
    return all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch", "srun")))


def start(folder):
    if not installed():
        print("SLURM is not installed (Debian and Ubuntu: slurm-wlm, munge)")
        sys.exit(SKIPPED)
    stop(folder)
    os.makedirs(folder, exist_ok=True)
    for log in glob.glob(os.path.join(folder, "*.log")):
        os.remove(log)
    with open(os.path.join(folder, "keeper.log"), "w") as log:
        keeper = subprocess.Popen([sys.executable, __file__, "keep", folder, str(os.getppid())], start_new_session=True,
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    with open(os.path.join(folder, "keeper.pid"), "w") as f:
        f.write(str(keeper.pid))
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and keeper.poll() is None:
        if up(folder):
            return
        time.sleep(0.1)
    stop(folder)
    for log in sorted(glob.glob(os.path.join(folder, "*.log"))):
        print(f"---- {os.path.basename(log)}\n" + "".join(open(log).readlines()[-15:]))
    sys.exit("cluster.py: SLURM did not start")


def stop(folder):
    try:
        pid = int(open(os.path.join(folder, "keeper.pid")).read())
        command = open(f"/proc/{pid}/cmdline").read().split("\0")
    except (OSError, ValueError):
        return
    if "keep" not in command or folder not in command:  # the number belongs to another by now
        return
    for number in signal.SIGTERM, signal.SIGKILL:
        try:
            os.kill(pid, number)
            until = time.monotonic() + 20
            while time.monotonic() < until and born(pid):
                time.sleep(0.05)
        except ProcessLookupError:
            return


if __name__ == "__main__":
    verb, folder = sys.argv[1], os.path.abspath(sys.argv[2])
    if verb == "keep":
        keep(folder, int(sys.argv[3]))
    else:
        {"start": start, "stop": stop}[verb](folder)
