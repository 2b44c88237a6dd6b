"""No build of the encoder leaves its memory or the language, whatever it encodes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from replay_update import ENCODINGS
from update_in_c import HERE, build, compile_codec

WATCHED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SECONDS = int(os.environ.get("FUZZ_SECONDS", "3"))
DRIVE = HERE.parent / "link_c/drive_fuzz.c"


def needs(program):
    """Skip where a compiler is missing; in CI that is a failure."""
    return pytest.mark.needs_package(program, command=program)


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
    library = build(tmp_path, *WATCHED, noise="given")
    variables = {"ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    count = run(sys.executable, HERE / "replay_update.py", library, LD_PRELOAD=asan, **variables)
    assert int(count) == len(ENCODINGS)


@pytest.mark.slow
@needs("gcc")
def test_random_changes_break_no_promise(tmp_path, seed):
    if library_of("gcc", "libasan.so") is None:
        pytest.skip("gcc has no libasan.so here")
    sources = [HERE / "fuzz_update.c", DRIVE]
    program = compile_codec("gcc", tmp_path / "drive_fuzz", *WATCHED, extra=sources)
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
    program = compile_codec("clang", tmp_path / "fuzz", *flags, extra=[HERE / "fuzz_update.c"])
    run(program, f"-max_total_time={SECONDS}", "-max_len=900", f"-artifact_prefix={tmp_path}/")


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [pytest.param(c, marks=needs(c)) for c in ("gcc", "clang")])
@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
def test_every_build_reproduces_the_vectors(tmp_path, compiler, level):
    library = build(tmp_path, level, compiler=compiler, noise="given")
    assert int(run(sys.executable, HERE / "replay_update.py", library)) == len(ENCODINGS)
