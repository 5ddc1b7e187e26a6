"""All that has to run on a GPU, in one go: `make gpu`.

Our timers and sensors against those of others, our kernels from tiny to full size, then a suite within a budget,
whose rows are kept in results/measured/ and shown in README.md. Called again it goes on with the suite where it
stopped. The exit code is 0 if all went well, 1 if a comparison, a kernel or a row failed, 2 for wrong input, 3 where
there is no GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import chain, count
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURED = (0, 1)  # exit codes of a run that has rows to keep
KERNELS = "4m"  # for the self-test of kernels: small sizes come first
ONE = "2m"  # for each of its tests: a kernel that hangs is not to take the time of all others


def main() -> int:
    options = parse()
    if code := absent(options.device):
        return code
    options.into.mkdir(parents=True, exist_ok=True)
    others = ("tests/perf/test_cuda.py", "tests/perf/test_cuda_energy.py")
    timers = tee(options.into / "timers.log", "-m", "pytest", *others, "-s", *options.pytest)
    kernels = tee(
        options.into / "kernels.log", "-m", "perwatt", "kernels", "selftest", "--device", "cuda", "--budget", KERNELS,
        "--timeout", ONE, "--out", str(fresh(options.into / "kernels")),
    ) if options.device.startswith("cuda") else 0  # fmt: skip
    folder = options.into / Path(options.suite).stem
    run = tee(
        folder.with_name(folder.name + ".log"), "-m", "perwatt", "run", options.suite, "--device", options.device,
        "--budget", options.budget, "--out", str(folder), "--resume",
    )  # fmt: skip
    if run not in MEASURED:
        return run
    marks = ["--into", str(options.measured), "--readme", str(options.readme)]
    kept = subprocess.run([sys.executable, "-m", "perwatt.report.measured", str(folder), *marks], cwd=ROOT, check=False)
    return kept.returncode or int(bool(timers or kernels or run))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "results" / "runs" / "gpu", help="folder of logs and runs")
    parser.add_argument("--suite", default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", default="25m", help="time for the suite")
    parser.add_argument("--measured", type=Path, default=ROOT / "results" / "measured")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest")
    return parser.parse_args()


def fresh(folder: Path) -> Path:
    """A folder that is not there yet: this one, or with a number."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(one for one in chain([folder], numbered) if not one.exists())


def absent(device: str) -> int:
    """Say in one line why there is no such device. Gives the exit code, 0 if there is one."""
    from perwatt import backends
    from perwatt.errors import InputError, MissingHardware

    try:
        backends.choose(device)
    except (InputError, MissingHardware) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, MissingHardware) else 2
    return 0


def tee(log: Path, *arguments: str) -> int:
    """Run Python with arguments; what it says is shown and kept. Gives its exit code."""
    command = [sys.executable, *arguments]
    with (
        log.open("ab") as kept,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        assert process.stdout is not None
        while chunk := process.stdout.read1(65536):
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
            kept.write(chunk)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
