"""A stand-in for Slurm on one machine, as the programs `sbatch`, `squeue` and `scancel`: it runs scripts in sessions.

The folder `FAKE_SLURM` holds its jobs. With a file `hold` in it no job starts, with `refuse` none is taken. A file
`limit` holds the number of jobs above which none is taken, and `hiccups` how many looks at the queue fail from now on.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path


def number_in(file: Path, default: int = 0) -> int:
    return int(file.read_text()) if file.exists() else default


def is_running(pid: int) -> bool:
    try:
        return pid > 0 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def main() -> int:
    name, home = Path(sys.argv[0]).name, Path(os.environ["FAKE_SLURM"])
    jobs = home / "jobs"
    jobs.mkdir(exist_ok=True)
    if name == "sbatch":
        if (home / "refuse").exists():
            print("sbatch: error: Invalid account", file=sys.stderr)
            return 1
        running = sum(is_running(int(job.read_text())) for job in jobs.iterdir())
        if running >= number_in(home / "limit", default=10**6):
            print("sbatch: error: AssocMaxSubmitJobLimit", file=sys.stderr)
            return 1
        script = Path(sys.argv[-1]).read_text()
        number = str(100 + len(list(jobs.iterdir())))
        (home / "scripts").mkdir(exist_ok=True)
        (home / "scripts" / number).write_text(script)
        if (home / "hold").exists():
            (jobs / number).write_text("0")
        else:
            log = re.search(r"^#SBATCH --output=(.*)$", script, flags=re.MULTILINE).group(1).replace("%%", "%")
            with open(log, "w") as output:
                child = subprocess.Popen(
                    ["bash", home / "scripts" / number], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True, close_fds=True,
                )  # fmt: skip
            (jobs / number).write_text(str(child.pid))
        print(number)
    elif name == "squeue":
        if hiccups := number_in(home / "hiccups"):
            (home / "hiccups").write_text(str(hiccups - 1))
            print("slurm_load_jobs error: Socket timed out on send/recv operation", file=sys.stderr)
            return 1
        wanted = next(word for word in sys.argv if word.startswith("--jobs=")).removeprefix("--jobs=").split(",")
        for number in wanted:
            pid = int((jobs / number).read_text())
            if pid == 0:
                print(f"{number}|PENDING|Resources")
            elif is_running(pid):
                print(f"{number}|RUNNING|None")
    else:
        number = signal.SIGKILL if "--signal=KILL" in sys.argv else signal.SIGTERM
        for job in (word for word in sys.argv[1:] if word.isdigit()):
            pid = int((jobs / job).read_text())
            if pid == 0:
                (jobs / job).write_text("-1")
            elif pid > 0:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
    return 0


if __name__ == "__main__":
    sys.exit(main())
