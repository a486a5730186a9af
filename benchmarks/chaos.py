"""Kill trainings and indexing at random moments, and damage their files: ``python benchmarks/chaos.py`` (``make chaos``).

What is killed is started again until it ends; its weights and log must then equal those of an undisturbed run, bit by bit. The counts are
written to ``benchmarks/results/chaos.json`` and into the table of ``docs/reliability.md``. Processes are forks of this one, which imports
the libraries once. A full disk needs the right to mount a tmpfs; without it that row is left out.

With ``--folder`` the finished rows are kept there, each with its commit, and the same command measures those that are missing.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from featlift.cli.error_messages import describe_error
from featlift.data.config import DataConfig
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.detectors.config import quick_detector_config
from featlift.papers import afi_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.training import OptimizerConfig, Run
from featlift.training.schedules import StageConfig

STEPS = 5
LIMIT = 600.0
"""Seconds after which a process counts as hanging."""
SEED = 0

Work = Callable[[], object]
Row = dict[str, Any]


def settings(num_workers: int = 0) -> afi_gan.Settings:
    """AFI-GAN with a small detector on 64-px scenes, ``STEPS`` steps in each of its stages."""
    model = quick_detector_config("afi")
    options = {**model.detector_options, "fc_dim": 16, "num_proposals": 20}
    model = replace(
        model, pyramid_channels=8, interpolator_options={"growth_rate": 4, "num_blocks": 1}, detector_options=options
    )
    data = DataConfig(batch_size=4, min_size=(), num_workers=num_workers, num_scenes=8, scene_size=64, num_val_scenes=2)
    stages = {name: StageConfig(STEPS, OptimizerConfig("adam", lr=0.001)) for name in STAGES}
    return afi_gan.Settings(model=model, data=data, **stages)


def train(folder: Path, num_workers: int = 0, seed: int = SEED) -> None:
    """Train in ``folder``, or resume."""
    torch.set_num_threads(1)
    config = settings(num_workers)
    with Run(folder, {"name": "chaos"}, seed=seed, device="cpu", save_every=2, log_every=1) as run:
        afi_gan.train(config, run)


def fork(work: Work, output: Path) -> int:
    """Do ``work`` in a process with a group of its own; errors end as on the command line, in ``output``. Return its id."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os._exit(_exit_code(work))


def _exit_code(work: Work) -> int:
    try:
        work()
    except SystemExit as stop:
        print(stop.code, flush=True)
        return 1
    except Exception as error:
        print(f"featlift: {describe_error(error)}", flush=True)
        return 1
    except BaseException:
        traceback.print_exc()
        return 2
    return 0


def wait(pid: int) -> int:
    """Return the exit code of the process, negative for a signal; a hanging one is killed with its group."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError(f"process {pid} hung for {LIMIT:.0f} s")


def fingerprint(run: Path) -> str:
    """Return a hash of all weights and of the log of a finished run."""
    digest = hashlib.sha256((run / "log.jsonl").read_bytes())
    from featlift.checkpoints import read_tensors

    for file in sorted(run.glob("*.safetensors")):
        for name, tensor in sorted(read_tensors(file)[0].items()):
            digest.update(f"{file.name} {name}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def children(pid: int) -> list[int]:
    """Return the worker processes of ``pid``."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def resume(folder: Path, work: Work, expected: str) -> str:
    """Start again undisturbed and say how it ended."""
    code = wait(fork(work, folder.with_suffix(".txt")))
    if code:
        return f"exit code {code}: {folder.with_suffix('.txt').read_text()[-500:]}"
    return "equal" if fingerprint(folder) == expected else "different"


def kill_training(way: str, folder: Path, kills: int, expected: str, duration: float, rng: random.Random) -> Row:
    """SIGKILL of the main process, of a worker, or signals to the whole group, at random moments."""
    done, outcomes, saved = 0, Counter(), 0
    while done < kills:
        run = folder / f"run{done}"
        work = partial(train, run, 2)
        while done < kills and (hit := _hit(way, work, run, duration, rng)) is not None:
            done, saved = done + 1, saved + hit
        outcomes[resume(run, work, expected)] += 1
        shutil.rmtree(run, ignore_errors=True)
    note = "" if way == "SIGKILL of the training" else f"{saved} saved first"
    return {"times": done, "outcome": dict(outcomes), "note": note}


def _hit(way: str, work: Work, run: Path, duration: float, rng: random.Random) -> bool | None:
    """Disturb one life after a random time: whether it then saved and said so; None if it ended before."""
    output = run.with_suffix(".txt")
    pid = fork(work, output)
    time.sleep(rng.uniform(0.05, 0.7) * duration)
    target = pid
    if "worker" in way:
        while not (workers := children(pid)):
            if os.waitpid(pid, os.WNOHANG)[0]:
                return None
            time.sleep(0.001)
        target = rng.choice(workers)
    number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]) if "group" in way else signal.SIGKILL
    with suppress(ProcessLookupError):
        os.killpg(pid, number) if "group" in way else os.kill(target, number)
    code = wait(pid)
    return (
        None
        if code == 0
        else "run the same command to resume" in output.read_text() or "was killed" in output.read_text()
    )


def kill_ranks(folder: Path, kills: int, rng: random.Random) -> Row:
    """SIGKILL of one of two processes; the other ends, and both are started again."""
    expected, duration = _two_ranks(folder / "ranks", None, rng)
    outcomes, done, run = Counter(), 0, 0
    while done < kills:
        run += 1
        while done < kills and _two_ranks(folder / f"ranks{run}", rng.uniform(0.1, 0.8) * duration, rng)[0] is None:
            done += 1
        outcomes["equal" if _two_ranks(folder / f"ranks{run}", None, rng)[0] == expected else "different"] += 1
    return {"times": done, "outcome": dict(outcomes), "note": ""}


def _two_ranks(run: Path, moment: float | None, rng: random.Random) -> tuple[str | None, float]:
    """Train with two processes; kill one after ``moment`` seconds. Return the hash if both ended, and the duration."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start, pids = time.monotonic(), []
    for rank in range(2):
        variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        pids.append(
            fork(
                lambda v=variables: (os.environ.update(v | {"MASTER_PORT": port}), train(run)),
                run.with_suffix(f".{rank}"),
            )
        )
    if moment is not None:
        time.sleep(moment)
        os.kill(rng.choice(pids), signal.SIGKILL)
    codes = [wait(pid) for pid in pids]
    return (fingerprint(run) if codes == [0, 0] else None), time.monotonic() - start


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": lambda path: path.unlink(),
    "one bit": lambda path: path.write_bytes(_flip(path.read_bytes())),
}


def _flip(content: bytes) -> bytes:
    middle = len(content) * 2 // 3
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


def damage_checkpoints(folder: Path, expected: str) -> Row:
    """Damage each file of the newest checkpoint in each way, and resume."""
    stopped, outcomes = stopped_run(folder), Counter()
    checkpoint = max((stopped / "checkpoint").glob("*/step-*"), key=lambda path: path.stat().st_mtime)
    for file in sorted(path.name for path in checkpoint.iterdir()):
        for damage in DAMAGES.values():
            copy = folder / "damaged"
            shutil.copytree(stopped, copy)
            damage(copy / checkpoint.relative_to(stopped) / file)
            outcomes[resume(copy, partial(train, copy), expected)] += 1
            shutil.rmtree(copy)
    return {"times": outcomes.total(), "outcome": dict(outcomes), "note": ""}


def stopped_run(folder: Path) -> Path:
    """Return the folder of a training that stopped in its last stage."""
    stopped = folder / "stopped"
    if not stopped.exists():
        wait(fork(partial(_train_until_stopped, stopped), stopped.with_suffix(".txt")))
    return stopped


def _train_until_stopped(run: Path) -> None:
    """Train until two checkpoints of the last stage exist, then stop without saving."""
    from featlift.training import checkpointing

    save = checkpointing.save_checkpoint

    def stopping(folder: Path, *arguments: Any) -> None:
        save(folder, *arguments)
        if folder.name == "target" and len(list(folder.glob("step-*"))) == 2:
            os._exit(0)

    checkpointing.save_checkpoint = stopping
    train(run)


def two_writers(folder: Path, trials: int, expected: str) -> Row:
    """Two trainings in one folder: the second has to be refused, the first to be right."""
    outcomes = Counter()
    for trial in range(trials):
        run = folder / f"both{trial}"
        pids = [fork(partial(train, run), folder / f"both{trial}.{i}.txt") for i in range(2)]
        codes = [wait(pid) for pid in pids]
        texts = "".join((folder / f"both{trial}.{i}.txt").read_text() for i in range(2))
        refused = sorted(codes) == [0, 1] and "is being written by another run (process" in texts
        outcomes["equal" if refused and fingerprint(run) == expected else f"codes {codes}"] += 1
    note = "the second was refused, with process, machine and time of the first"
    return {"times": trials, "outcome": dict(outcomes), "note": note}


def full_disk(folder: Path, expected: str) -> Row | None:
    """Train on a tmpfs of too little space, then resume with more."""
    disk, outcomes = folder / "disk", Counter()
    disk.mkdir()
    size = sum(path.stat().st_size for path in stopped_run(folder).rglob("*") if path.is_file()) // 1024
    for share in (0.2, 0.5, 0.8):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={int(size * share)}k", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            return None
        try:
            work, output = partial(train, disk / "run"), folder / "full.txt"
            code, text = wait(fork(work, output)), output.read_text()
            subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
            code_again = wait(fork(work, output))
            right = (
                code == 1 and "The disk is full" in text and code_again == 0 and fingerprint(disk / "run") == expected
            )
            outcomes["equal" if right else f"codes {code}, {code_again}: {text[-200:]}"] += 1
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return {"times": 3, "outcome": dict(outcomes), "note": "one sentence; resumed with more room"}


def kill_index(folder: Path, kills: int, rng: random.Random) -> Row:
    """SIGKILL of ``featlift index``; the vectors are compared with those of an undisturbed index."""
    images = folder / "images"
    write_synthetic_landmarks(images, num_landmarks=20, gallery_views=5, query_views=1, image_size=48)
    start = time.monotonic()
    wait(fork(partial(_index, images, folder / "index"), folder / "index.txt"))
    duration, outcomes, done, run = time.monotonic() - start, Counter(), 0, 0
    while done < kills:
        run += 1
        out = folder / f"index{run}"
        for _ in range(4):
            pid = fork(partial(_index, images, out), out.with_suffix(".txt"))
            time.sleep(rng.uniform(0.3, 0.95) * duration)
            os.kill(pid, signal.SIGKILL)
            done += wait(pid) < 0
        code = wait(fork(partial(_index, images, out), out.with_suffix(".txt")))
        same = (out / "hash").read_text() == (folder / "index" / "hash").read_text() if code == 0 else False
        outcomes["equal" if same else f"code {code}: {out.with_suffix('.txt').read_text()[-300:]}"] += 1
    return {"times": done, "outcome": dict(outcomes), "note": ""}


def _index(images: Path, out: Path) -> None:
    """Index, and write a hash of names and vectors."""
    from featlift.deployment.image_search import update_index
    from featlift.retrieval.embedders import EmbedderConfig

    torch.set_num_threads(1)
    store = update_index(images / "gallery", out, EmbedderConfig("gist", input_size=64), chunk_size=4).store
    vectors = store.take([store.row(name) for name in sorted(store.names)])
    (out / "hash").write_text(
        hashlib.sha256(repr(sorted(store.names)).encode() + vectors.numpy().tobytes()).hexdigest()
    )


def run_all(folder: Path, kills: int, commit: str | None) -> Iterator[Row]:
    """Yield the rows of the table, with the commit that was measured; those in ``folder/rows.jsonl`` are not measured again."""
    kept, expected, duration = folder / "rows.jsonl", {}, 0.0
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {row["what"]: row for row in lines}
    work = Path(tempfile.mkdtemp(dir=folder))
    for num_workers in (0, 2):
        run, start = work / f"undisturbed{num_workers}", time.monotonic()
        code = wait(fork(partial(train, run, num_workers), run.with_suffix(".txt")))
        assert code == 0, run.with_suffix(".txt").read_text()
        expected[num_workers], duration = fingerprint(run), time.monotonic() - start
    for number, (what, measure) in enumerate(_measurements(work, kills, expected, duration).items()):
        if what in done:
            yield done[what]
        elif (counts := measure(random.Random(f"{SEED} {number}"))) is not None:
            row = {"what": what, **counts, "commit": commit}
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
            yield row
    shutil.rmtree(work)


def _measurements(
    folder: Path, kills: int, expected: dict[int, str], duration: float
) -> dict[str, Callable[[random.Random], Row | None]]:
    shares = {"SIGKILL of the training": 2, "SIGKILL of a worker": 1, "SIGINT, SIGTERM or SIGHUP to the group": 1}
    return {
        **{
            way: lambda rng, way=way, share=share: kill_training(
                way, folder, kills * share // 4, expected[2], duration, rng
            )
            for way, share in shares.items()
        },
        "SIGKILL of one of two processes": lambda rng: kill_ranks(folder, max(1, kills // 10), rng),
        "damaged file of the newest checkpoint": lambda rng: damage_checkpoints(folder, expected[0]),
        "two trainings in one folder": lambda rng: two_writers(folder, 4, expected[0]),
        "SIGKILL of `featlift index`": lambda rng: kill_index(folder, max(4, kills // 5), rng),
        "full disk": lambda rng: full_disk(folder, expected[0]),
    }


def format_rows(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the rows of the table of ``docs/reliability.md``."""
    table = []
    for row in rows:
        equal = f"{row['outcome'].get('equal', 0)} of {sum(row['outcome'].values())} runs"
        table.append(
            {
                "what": row["what"],
                "times": row["times"],
                "after it, equal to an undisturbed run": equal,
                "remarks": row["note"],
                "commit": (row["commit"] or "")[:7],
            }
        )
    return table


def main() -> None:
    """Run everything and write the counts."""
    from run import RESULTS, collect_metadata, write_result

    import report

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="number of kills of the training")
    parser.add_argument("--folder", type=Path, help="folder that keeps finished rows; default: a temporary one")
    parser.add_argument("--keep-docs", action="store_true", help="do not write docs and results")
    arguments = parser.parse_args()
    metadata = collect_metadata(torch.device("cpu"), f"python benchmarks/chaos.py --kills {arguments.kills}")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for row in run_all(folder, arguments.kills, metadata["commit"]):
            print(json.dumps(row), flush=True)
            rows.append(row)
    if not arguments.keep_docs:
        table = {"caption": "Killed, damaged and started again", "rows": format_rows(rows)}
        write_result("chaos", [table], metadata, RESULTS, {"counts": rows})
        report.main()
    sys.exit(any(set(row["outcome"]) != {"equal"} for row in rows))


if __name__ == "__main__":
    main()
