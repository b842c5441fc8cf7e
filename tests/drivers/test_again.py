"""Programs that run again as their own workers: real interpreters, each with its context."""

import json
import os
import subprocess
import sys
import textwrap
import zipapp

import pytest
from processes import PATIENCE, ROOT, run_script

pytestmark = pytest.mark.os

SETTING = """
import json, os, socket, subprocess, sys
import attrs
from reconciler import Controller, Policy, Restart, fork_worker_process, worker

@attrs.frozen
class Job:
    key: int
    text: str = ""

def run(workers, fork):
    # Until each worker has ended once, or could not be started.
    ends = []
    def tell(events):
        ends.extend(one for one in events if one.event in ("worker.exited", "worker.start_failed"))
        if len(ends) >= len(workers):
            controller.stop()
    controller = Controller(lambda: workers, fork, policy=Policy(restart=Restart(policy="never")))
    controller.publish = tell
    controller.run()
    return ends

"""

PROGRAM = (
    SETTING
    + """
def main():
    job = worker.context(Job)
    if job is None:
        print(json.dumps(["controller", sys.argv, None]), flush=True)
        run([Job(1, "one ✓"), Job(2, "two")], fork_worker_process)
    else:
        print(json.dumps(["worker", sys.argv, job.text]))

if __name__ == "__main__":
    main()
"""
)


def launch(command, cwd):
    """The lines of a program as JSON values; it must succeed and write nothing to stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def facts(source):
    """What the only line of a program says, written with the names of `SETTING`."""
    done = run_script(SETTING + textwrap.dedent(source))
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def script(folder):
    """A script, by a relative path."""
    (folder / "program.py").write_text(PROGRAM)
    return ["program.py"]


def module(folder):
    """A module of a package."""
    (folder / "package").mkdir()
    (folder / "package/__init__.py").touch()
    (folder / "package/program.py").write_text(PROGRAM)
    return ["-m", "package.program"]


def package(folder):
    """A package with a main module."""
    (folder / "package").mkdir()
    (folder / "package/__main__.py").write_text(PROGRAM)
    return ["-m", "package"]


def text(_):
    """Source on the command line."""
    return ["-c", PROGRAM]


def archive(folder):
    """A zip file."""
    (folder / "source").mkdir()
    (folder / "source/__main__.py").write_text(PROGRAM)
    zipapp.create_archive(folder / "source", folder / "program.pyz")
    return ["program.pyz"]


def directory(folder):
    """A directory with a main module."""
    (folder / "program").mkdir()
    (folder / "program/__main__.py").write_text(PROGRAM)
    return ["program"]


def console_script(folder):
    """An executable as pip writes it, found on the path, whose code is in a module elsewhere."""
    (folder / "program_of_a_package.py").write_text(PROGRAM)
    file = folder / "program"
    head = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(folder)!r})\n"
    file.write_text(f"{head}from program_of_a_package import main\nsys.exit(main())\n")
    file.chmod(0o755)


# ------------------------------------------------------------------------------------------------ kinds of programs


@pytest.mark.parametrize("kind", [script, module, package, text, archive, directory, console_script])
def test_every_kind_of_program_runs_again(tmp_path, kind):
    """However a program was started, its workers run it again, with the same arguments and a context each."""
    program = kind(tmp_path)
    start = [str(tmp_path / "program")] if program is None else [sys.executable, *program]

    (role, argv, _), *workers = launch([*start, "--port", "80", "-X", "a b", ""], tmp_path)

    assert role == "controller"
    assert argv[1:] == ["--port", "80", "-X", "a b", ""]
    assert sorted(given for _, _, given in workers) == ["one ✓", "two"]
    for role, of_worker, _ in workers:
        assert role == "worker"
        # A script may be named by its full path, as the controller may work elsewhere by then.
        assert of_worker[1:] == argv[1:]
        assert os.path.basename(of_worker[0]) == os.path.basename(argv[0])


def test_argv_is_the_same(tmp_path):
    """A worker finds the very `sys.argv` that the program was started with."""
    controller, *workers = launch([sys.executable, *script(tmp_path), "-v"], tmp_path)

    assert controller[1] == ["program.py", "-v"]
    assert [argv for _, argv, _ in workers] == [["program.py", "-v"]] * 2


def test_options_of_the_interpreter_are_kept(tmp_path):
    """Options that the interpreter was started with are those of its workers too."""
    source = """
    if worker.context(Job) is None:
        run([Job(1)], fork_worker_process)
    else:
        print(json.dumps([sys.flags.optimize, sys.flags.utf8_mode, sys.warnoptions, sys.flags.dont_write_bytecode]))
    """
    program = ["-OB", "-X", "utf8", "-Wignore::ImportWarning", "-c", SETTING + textwrap.dedent(source)]

    assert launch([sys.executable, *program], tmp_path) == [[1, 1, ["ignore::ImportWarning"], True]]


def test_working_directory_may_change(tmp_path):
    """A script that was started by a relative path is found again from another directory."""
    file = script(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM.replace("def main():", "def main():\n    os.chdir('/')"))

    assert len(launch([sys.executable, *file], tmp_path)) == 3


# ------------------------------------------------------------------------------------------------ what is seen and set


def test_arguments_are_shown():
    """The words given as `args` are in the worker's command line for `ps`, and not in its `sys.argv`."""
    argv, shown = facts("""
        if worker.context(Job) is None:
            run([Job(1)], lambda job: fork_worker_process(job, ["id=1", "colour=red"]))
        else:
            with open(f"/proc/{os.getpid()}/cmdline") as file:
                print(json.dumps([sys.argv, file.read().split("\\0")]))
    """)

    assert argv == ["-c"]
    assert "worker=id=1 colour=red" in shown


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (["-O"], [1, False, []]),
        (["-OO"], [2, False, []]),
        (["-X", "dev"], [0, True, ["default"]]),
        (["-Xdev"], [0, True, ["default"]]),
        (["-W", "error"], [0, False, ["error"]]),
        (["-O", "-W", "error", "-X", "dev"], [1, True, ["default", "error"]]),
    ],
    ids=str,
)
def test_interpreter_options_take_effect(options, seen):
    """What a worker asks for by `interpreter_options` is how its interpreter runs."""
    assert seen == facts(f"""
        class Tuned(Job):
            def interpreter_options(self):
                return {options!r}

        if worker.context(Tuned) is None:
            run([Tuned(1)], fork_worker_process)
        else:
            print(json.dumps([sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions]))
    """)


@pytest.mark.parametrize(
    "options",
    [["-c", "pass"], ["-m", "this"], ["-Om", "this"], ["script.py"], ["-"], ["-X"], ["-W"], ["-O", "-X"], [3], [None]],
    ids=str,
)
def test_what_is_no_option_is_refused(options):
    """Anything that would make the interpreter run something else is a failed start that says what is expected."""
    (message,) = facts(f"""
        class Odd(Job):
            def interpreter_options(self):
                return {options!r}

        if worker.context(Odd) is None:
            ends = run([Odd(1)], fork_worker_process)
            print(json.dumps([end.extra["message"] for end in ends]))
    """)

    assert message.startswith("ValueError: interpreter_options must be options of the interpreter")
    assert repr(options) in message


# ------------------------------------------------------------------------------------------------ what is inherited


def test_descriptors_are_those_that_were_promised():
    """A socket in the context and an extra file keep their numbers, and are all that a worker has besides 0 to 2."""
    seen, promised, usable = facts("""
        from processes import descriptors

        @attrs.frozen
        class Web:
            key: int
            listener: socket.socket
            extra: int

        web = worker.context(Web)
        if web is None:
            with socket.create_server(("127.0.0.1", 0)) as listener, open("/dev/zero", "rb") as extra:
                listener.set_inheritable(False)
                stranger = os.open("/dev/null", os.O_RDONLY)
                os.set_inheritable(stranger, True)
                run([Web(1, listener, extra.fileno())], lambda web: fork_worker_process(web, fds=[extra]))
        else:
            promised = sorted([web.listener.fileno(), web.extra])
            usable = os.read(web.extra, 1) == b"\\0" and web.listener.getsockname()[1] > 0
            print(json.dumps([sorted(descriptors()), promised, usable]))
    """)

    assert seen == [0, 1, 2, *promised]
    assert usable


def test_nothing_marks_what_a_worker_starts():
    """What a worker starts has nothing in its environment that would make it a worker too."""
    names, own = facts("""
        if worker.context(Job) is None:
            run([Job(1)], fork_worker_process)
        else:
            code = "import json, os; print(json.dumps(sorted(os.environ)))"
            names = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
            print(json.dumps([json.loads(names), os.environ["RECONCILER_KEY"]]))
    """)

    assert not {"PREFORK", "RECONCILER_PARENT"} & set(names)
    assert own == "1"


def test_worker_that_forgot_its_context_is_no_controller():
    """A program that does not call `worker.context` cannot become a second controller; its worker says why."""
    done = run_script(
        SETTING
        + textwrap.dedent("""
        (end,) = run([Job(1)], fork_worker_process)
        print(end.extra["exit_code"])
        """)
    )

    assert done.stdout == "1\n"
    assert done.stderr.count("RuntimeError: this process was started as a worker") == 1
    assert "reconciler.worker.context" in done.stderr


def test_lines_of_workers_are_never_mixed():
    """Lines that two workers write at the same time, in pieces, come out whole."""
    done = run_script(
        SETTING
        + textwrap.dedent("""
        job = worker.context(Job)
        if job is None:
            run([Job(1, "a"), Job(2, "b")], fork_worker_process)
        else:
            for _ in range(300):
                for piece in (job.text * 700, job.text * 300 + "\\n"):
                    os.write(1, piece.encode())
        """)
    )

    assert sorted(done.stdout.splitlines()) == ["a" * 1000] * 300 + ["b" * 1000] * 300
