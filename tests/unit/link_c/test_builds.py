"""No build of the link leaves its memory or the language, whatever arrives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from link_in_c import HERE, build, compile_link, needs
from replay import FRAMES, SESSIONS

WATCHED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SECONDS = int(os.environ.get("FUZZ_SECONDS", "3"))


def run(*command, **variables):
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=SECONDS + 90,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout.strip()


def library_of(compiler, name):
    """A file of the compiler's own, or None where it is not installed."""
    answer = run(compiler, f"-print-file-name={name}")
    return answer if Path(answer).is_file() else None


@pytest.mark.slow
@needs("gcc")
def test_the_vectors_stay_in_memory(tmp_path):
    asan = library_of("gcc", "libasan.so")
    if asan is None:
        pytest.skip("gcc has no libasan.so here")
    library = build(tmp_path, *WATCHED)
    variables = {"ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    count = run(sys.executable, HERE / "replay.py", library, LD_PRELOAD=asan, **variables)
    assert int(count) == len(FRAMES) + len(SESSIONS)


@pytest.mark.slow
@needs("gcc")
def test_random_hosts_break_no_promise(tmp_path, seed):
    if library_of("gcc", "libasan.so") is None:
        pytest.skip("gcc has no libasan.so here")
    sources = [HERE / "fuzz_link.c", HERE / "drive_fuzz.c"]
    program = compile_link("gcc", tmp_path / "drive_fuzz", *WATCHED, extra=sources)
    assert run(program, 3000, seed) == "3000"


@pytest.mark.slow
@needs("clang")
def test_the_fuzzer_breaks_no_promise(tmp_path):
    """FUZZ_SECONDS=600 looks further."""
    machine = os.uname().machine
    if library_of("clang", f"libclang_rt.fuzzer-{machine}.a") is None:
        missing = "clang has no libFuzzer here: install libclang-rt-dev"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    flags = ("-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
    program = compile_link("clang", tmp_path / "fuzz", *flags, extra=[HERE / "fuzz_link.c"])
    run(program, f"-max_total_time={SECONDS}", "-max_len=600", f"-artifact_prefix={tmp_path}/")


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [pytest.param(c, marks=needs(c)) for c in ("gcc", "clang")])
@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
def test_every_build_reproduces_the_vectors(tmp_path, compiler, level):
    library = build(tmp_path, level, compiler=compiler)
    assert int(run(sys.executable, HERE / "replay.py", library)) == len(FRAMES) + len(SESSIONS)
