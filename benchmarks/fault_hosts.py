"""Faults of hosts and of the network between them, done on purpose to a run of several hosts.

    python benchmarks/fault_hosts.py --hosts 2 3 --output fault_hosts.json

Each host is a network namespace of this machine; this process is the wire between them, which it
cuts, or on which it loses packets. Right is: the run ends well, or with one line on every host
within a minute of the fault; and the same command, given again on all hosts, ends with the weights
of an undisturbed run. Needs root on Linux. A JSON line a fault; status 1 if one is wrong.
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from fault_chain import CHAIN, Ended, Step, begun, differences, run, said_file
from processes import print_row, rounded, write_report

_NET = "10.77.0"
_PORT = 9876
_WITHIN = 60.0  # seconds, of a fault to the last line
_MARGIN = 15.0  # for processes to end, on cores that they share
_LONGEST = 600.0  # seconds of a run
_MTU = 1400
# linux/if_tun.h
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class WrongError(Exception):
    """A host hung, or ended without saying why, or the results are others."""


class Wire(threading.Thread):
    """Carries packets between namespaces `mprm0`, `mprm1`, ...; a context manager."""

    def __init__(self, num_hosts: int):
        super().__init__(daemon=True)
        self.loss = 0.0  # share of packets
        self.cut: set[int] = set()  # hosts that nothing reaches
        self._ends = [_tunnel(f"wire{host}") for host in range(num_hosts)]
        self._done = threading.Event()

    def __enter__(self) -> "Wire":
        for host in range(len(self._ends)):
            space, wire = f"mprm{host}", f"wire{host}"
            _ip("netns", "add", space)
            _ip("link", "set", wire, "netns", space)
            inside = ("netns", "exec", space, "ip")
            _ip(*inside, "address", "add", f"{_address(host)}/24", "dev", wire)
            _ip(*inside, "link", "set", wire, "mtu", str(_MTU), "up")
            _ip(*inside, "link", "set", "lo", "up")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()
        for host, end in enumerate(self._ends):
            os.close(end)
            _ip("netns", "del", f"mprm{host}")

    def run(self) -> None:
        rng = random.Random(0)
        while not self._done.is_set():
            ready, _, _ = select.select(self._ends, [], [], 0.2)
            for end in ready:
                packet = os.read(end, 65536)
                host = packet[19] - 1  # last byte of an IPv4 destination
                if packet[0] >> 4 != 4 or not 0 <= host < len(self._ends):
                    continue
                ends = {host, self._ends.index(end)}
                if not ends & self.cut and rng.random() >= self.loss:
                    os.write(self._ends[host], packet)


class Hosts:
    """A training run of several hosts, in a folder that all share."""

    def __init__(self, folder: pathlib.Path, num_hosts: int):
        self.folder, self.num_hosts = folder, num_hosts
        self.step = next(step for step in CHAIN if step.name == "train")

    @contextlib.contextmanager
    def begun(self, hosts: list[int] | None = None) -> Iterator[dict[int, subprocess.Popen]]:
        """The command of each host, or of some."""
        hosts = list(range(self.num_hosts)) if hosts is None else hosts
        with contextlib.ExitStack() as stack:
            yield {
                host: stack.enter_context(
                    begun(
                        self._of(host),
                        self.folder,
                        f"pyramid.buckets_per_step={2 * 3}",
                        "optim.epochs=40",
                        "--hosts",
                        f"{_address(0)}:{_PORT},{self.num_hosts},{host}",
                        prefix=("ip", "netns", "exec", f"mprm{host}"),
                    )
                )
                for host in hosts
            }

    def ended(self, processes: dict[int, subprocess.Popen], limit: float) -> dict[int, Ended]:
        """How each host ended.

        Raises:
          WrongError: one is still there.
        """
        start, found = time.monotonic(), {}
        for host, process in processes.items():
            try:
                process.wait(max(limit - (time.monotonic() - start), 0.1))
            except subprocess.TimeoutExpired:
                raise WrongError(f"host {host} is still there after {limit:.0f} s") from None
            said = said_file(self._of(host), self.folder)
            text = said.read_text(encoding="utf-8", errors="replace")
            found[host] = Ended(process.returncode, text, time.monotonic() - start)
        return found

    def wait_for_steps(self, processes: dict[int, subprocess.Popen], lines: int = 3) -> None:
        """Until some steps are logged."""
        metrics, end = self.folder / "cls" / "metrics.jsonl", time.monotonic() + _LONGEST
        while not metrics.exists() or metrics.read_text(encoding="utf-8").count("\n") < lines:
            if any(process.poll() is not None for process in processes.values()):
                raise WrongError("a host ended before the fault")
            if time.monotonic() > end:
                raise WrongError("no step is logged")
            time.sleep(0.1)

    def forget_what_was_said(self) -> None:
        for host in range(self.num_hosts):
            said_file(self._of(host), self.folder).unlink(missing_ok=True)

    def _of(self, host: int) -> Step:
        """The training of a host, whose words go to a file of its own."""
        return self.step._replace(output=f"host{host}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="kinds: " + "; ".join(FAULTS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hosts", type=int, nargs="+", default=[2], help="how many (default: 2)")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=[*FAULTS], metavar="KIND")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    if (why := no_networks()) is not None:
        parser.error(why)
    rows = []
    for num_hosts in args.hosts:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder, Wire(num_hosts) as wire:
            whole = pathlib.Path(folder) / "undisturbed"
            undisturbed(whole, num_hosts)
            for kind in args.only:
                struck = pathlib.Path(folder) / kind.replace(" ", "-")
                row = {"fault": kind, "hosts": num_hosts}
                row |= strike(kind, Hosts(struck, num_hosts), wire, whole)
                rows.append(print_row(rounded(row)))
                write_report(args.output, rows)
    sys.exit(1 if any(row["ended"] == "wrong" for row in rows) else 0)


def no_networks() -> str | None:
    """Why this process cannot make networks of its own; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "networks of its own need root on Linux"
    try:
        os.close(_tunnel("probe"))
        _ip("netns", "add", "mprm-probe")
        _ip("netns", "del", "mprm-probe")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"networks of its own are not allowed here ({error})"
    return None


def undisturbed(folder: pathlib.Path, num_hosts: int) -> None:
    """What all results are compared with."""
    folder.mkdir()
    if not run(CHAIN[0], folder).is_right:
        raise WrongError("mprm prepare failed")
    hosts = Hosts(folder, num_hosts)
    with hosts.begun() as processes:
        _all_right(hosts.ended(processes, _LONGEST))


def strike(kind: str, hosts: Hosts, wire: Wire, whole: pathlib.Path) -> dict:
    """One fault, and how the hosts and their next run ended."""
    hosts.folder.mkdir()
    (hosts.folder / "prepared").symlink_to(whole / "prepared")
    start = time.monotonic()
    try:
        row = FAULTS[kind](hosts, wire)
        wire.loss, wire.cut = 0.0, set()
        hosts.forget_what_was_said()
        with hosts.begun() as processes:
            _all_right(hosts.ended(processes, _LONGEST))
        if other := differences(whole / "cls", hosts.folder / "cls"):
            raise WrongError(f"differs in {', '.join(other)}")
    except WrongError as error:
        row = {"ended": "wrong", "why": str(error)}
    finally:
        wire.loss, wire.cut = 0.0, set()
    return row | {"seconds": time.monotonic() - start}


def cut_for_a_while(hosts: Hosts, wire: Wire) -> dict:
    """The last host is cut off for 5 s."""
    with hosts.begun() as processes:
        hosts.wait_for_steps(processes)
        wire.cut = {hosts.num_hosts - 1}
        time.sleep(5)
        wire.cut = set()
        return _outcome(hosts.ended(processes, _LONGEST))


def cut_for_good(hosts: Hosts, wire: Wire) -> dict:
    """The last host is cut off."""
    with hosts.begun() as processes:
        hosts.wait_for_steps(processes)
        wire.cut = {hosts.num_hosts - 1}
        return _outcome(hosts.ended(processes, _WITHIN + _MARGIN))


def lost_packets(hosts: Hosts, wire: Wire) -> dict:
    """30 % of all packets are lost from the start."""
    wire.loss = 0.3
    with hosts.begun() as processes:
        return _outcome(hosts.ended(processes, _LONGEST))


def slow_host(hosts: Hosts, wire: Wire) -> dict:
    """The last host computes in a tenth of the time only."""
    with hosts.begun() as processes:
        hosts.wait_for_steps(processes)
        slow = processes[hosts.num_hosts - 1]
        end = time.monotonic() + _LONGEST
        while slow.poll() is None and time.monotonic() < end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(slow.pid, signal.SIGSTOP)
                time.sleep(0.45)
                os.killpg(slow.pid, signal.SIGCONT)
                time.sleep(0.05)
        return _outcome(hosts.ended(processes, _MARGIN))


def restarted_alone(hosts: Hosts, wire: Wire) -> dict:
    """The last host is killed and its command given again, but not that of the others."""
    last = hosts.num_hosts - 1
    with hosts.begun() as processes:
        hosts.wait_for_steps(processes)
        os.killpg(processes[last].pid, signal.SIGKILL)
        processes[last].wait()
        with hosts.begun([last]) as again:
            return _outcome(hosts.ended(processes | again, 2 * _WITHIN + _MARGIN))


def port_taken(hosts: Hosts, wire: Wire) -> dict:
    """Something else listens at the port of host 0."""
    listen = (
        f"import socket,time; s=socket.create_server(('{_address(0)}', {_PORT})); time.sleep(999)"
    )
    taker = ["ip", "netns", "exec", "mprm0", sys.executable, "-c", listen]
    with subprocess.Popen(taker, start_new_session=True) as process:
        try:
            time.sleep(1)
            with hosts.begun() as processes:
                return _outcome(hosts.ended(processes, 2 * _WITHIN + _MARGIN))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


FAULTS: dict[str, Callable[[Hosts, Wire], dict]] = {
    "cut for 5 s": cut_for_a_while,
    "cut for good": cut_for_good,
    "30 % of packets lost": lost_packets,
    "one host ten times slower": slow_host,
    "one host restarted alone": restarted_alone,
    "port taken": port_taken,
}


def _outcome(ended: dict[int, Ended]) -> dict:
    """In words.

    Raises:
      WrongError: a host said nothing.
    """
    if all(found.is_right for found in ended.values()):
        return {"ended": "right"}
    for host, found in ended.items():
        if not found.is_one_line and not found.is_right:
            raise WrongError(f"host {host}: status {found.status}, said {found.said[-400:]!r}")
    lines = {found.said.strip().splitlines()[-1] for found in ended.values() if not found.is_right}
    slowest = max(found.seconds for found in ended.values())
    return {"ended": "one line on each host", "said": sorted(lines), "ended_after_s": slowest}


def _all_right(ended: dict[int, Ended]) -> None:
    for host, found in ended.items():
        if not found.is_right:
            raise WrongError(f"again, host {host}: status {found.status}, {found.said[-400:]!r}")


def _address(host: int) -> str:
    return f"{_NET}.{host + 1}"


def _tunnel(name: str) -> int:
    """A network device whose packets this process reads and writes."""
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return end


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


if __name__ == "__main__":
    main()
