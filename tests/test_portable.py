"""What a system other than Linux lacks is not needed to import the package, nor used unguarded.

Nothing of this ran on Windows or macOS.
"""

import ast
import pathlib
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from mprm_jax import worker_processes

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / "mprm_jax").rglob("*.py")) + sorted((ROOT / "experiments").glob("*.py"))
POSIX_MODULES = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios"}
POSIX_NAMES = {
    *("os.fork", "os.forkpty", "os.getpgid", "os.getuid", "os.geteuid", "os.getgid", "os.killpg"),
    *("os.mkfifo", "os.nice", "os.setsid", "os.statvfs", "os.sysconf", "os.uname", "os.wait"),
    *("os.getloadavg", "os.sched_setaffinity", "os.symlink", "os.rename", "os.chown"),
    *("signal.SIGKILL", "signal.SIGHUP", "signal.SIGUSR1", "signal.SIGUSR2", "signal.alarm"),
    *("signal.pause", "signal.setitimer", "signal.sigwait", "signal.pthread_sigmask"),
    *("socket.AF_UNIX", "socket.SO_REUSEPORT", "time.tzset"),
}
IMPORT_ALL = f"""
import importlib, pkgutil, sys, warnings
sys.modules.update(dict.fromkeys({sorted(POSIX_MODULES - {"posix"})}))
warnings.simplefilter("ignore")  # libraries say what they go without
import mprm_jax
names = [found.name for found in pkgutil.walk_packages(mprm_jax.__path__, "mprm_jax.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


def top_level_imports(tree):
    """Modules imported when a module is, whether inside of an `if` or `try` or not."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def opens_as_text(call):
    """Whether a call opens a file as text without saying in which encoding."""
    is_las = ast.unparse(call.func) == "laspy.open"  # always binary
    if is_las or any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in ("read_text", "write_text"):
        return True
    is_builtin = isinstance(call.func, ast.Name) and call.func.id == "open"
    modes = [x.value for x in call.args[is_builtin:] if isinstance(x, ast.Constant)]
    named = [x.value for x in call.keywords if x.arg == "mode"]
    modes += [x.value for x in named if isinstance(x, ast.Constant)]
    if is_builtin:
        return "b" not in "".join(modes)
    return name == "open" and any(mode in ("r", "w", "a", "x") for mode in modes)


@pytest.mark.slow
def test_every_module_can_be_imported_without_those_of_posix():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 100


def test_no_module_imports_those_of_posix_at_the_top():
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {name.partition(".")[0] for name in top_level_imports(tree)}
        assert not found & POSIX_MODULES, path


def test_no_module_uses_a_name_that_only_posix_has():
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        names = {ast.unparse(x) for x in attributes if isinstance(x.value, ast.Name)}
        assert not names & POSIX_NAMES, path


def test_every_text_file_has_its_encoding_named():
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert [ast.unparse(call) for call in calls if opens_as_text(call)] == [], path


def test_processes_are_spawned_only():
    """A forked one may hang on threads of XLA, and Windows has none."""
    uses = {"multiprocessing.Process", "multiprocessing.Pool", "multiprocessing.set_start_method"}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in uses if name in text], path
        if path.name != "worker_processes.py":
            assert "ProcessPoolExecutor(" not in text and "get_context(" not in text, path


def test_windows_gets_no_more_processes_than_it_can_wait_for(monkeypatch):
    asked = []

    class Pool(ProcessPoolExecutor):
        def __init__(self, num_workers, *rest):
            asked.append(num_workers)

    monkeypatch.setattr(worker_processes, "ProcessPoolExecutor", Pool)
    for system in ("linux", "win32"):
        monkeypatch.setattr(sys, "platform", system)
        worker_processes.make_pool(100)
    assert asked == [100, 61]
