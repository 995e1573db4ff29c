import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from served import OPEN, TOKEN, ask, open_app, serving, write_rooms

from mprm_jax.errors import UserError
from mprm_jax.tagging.server import MAX_BODY, Server

ROOT = pathlib.Path(__file__).parents[2]
BODY = {"state": "tagged", "tags": [0], "seconds": 2, "before": OPEN}


@pytest.fixture
def server(tmp_path):
    write_rooms(tmp_path)
    with serving(open_app(tmp_path)) as server:
        yield server


def speak(server, *lines, body=b""):
    """Sends lines as they are and reads all of the answer."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_the_page_asks_and_is_answered(server):
    assert ask(server, "api/state")[0] == 200
    assert ask(server, "api/scan/0")[0] == 200
    assert len(ask(server, "api/scan/0/points/0")[1]) == 4 + 15 * 2000
    status, answer = ask(server, "api/scan/0/ball/0", BODY)
    assert (status, answer["ball"]["tags"]) == (200, [0])


def test_a_question_may_have_a_query(server):
    assert ask(server, "api/state?again=1")[0] == 200


@pytest.mark.parametrize("token", ["", "4" * 32, TOKEN[:-1], TOKEN.upper() + "0", "page"])
def test_a_wrong_token_is_refused(server, token):
    status, answer = ask(server, "api/state", token=token)
    assert status == 403
    assert "wrong address" in answer["error"]
    assert ask(server, "api/scan/0/ball/0", BODY, token=token)[0] == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "localhost@evil"],
)
def test_a_foreign_host_is_refused(server, host):
    assert ask(server, "api/state", headers={"Host": host})[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1:1", "LOCALHOST:80"])
def test_a_tunnel_may_change_the_port(server, host):
    assert ask(server, "api/state", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil", "x"])
def test_a_foreign_page_is_refused(server, tmp_path, origin):
    assert ask(server, "api/scan/0/ball/0", BODY, headers={"Origin": origin})[0] == 403
    assert not (tmp_path / "tags.csv").exists()


def test_its_own_page_is_answered(server):
    origin = f"http://localhost:{server.server_port}"
    assert ask(server, "api/scan/0/ball/0", BODY, headers={"Origin": origin})[0] == 200


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "page/../../app.py", "page/%2e%2e/app.py", "..\\app.py", "api/scan/0/x"],
)
def test_a_path_leads_nowhere(server, path):
    answer = speak(server, f"GET /{TOKEN}/{path} HTTP/1.1", "Host: localhost", "Connection: close")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


def test_a_huge_body_is_refused_unread(server):
    status, answer = ask(server, "api/classes", b"x" * (MAX_BODY + 1))
    assert status == 413
    assert "65536" in answer["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Length": "-1"},
        {"Content-Length": "1e3"},
        {"Content-Length": "9" * 5000},
    ],
)
def test_a_body_of_another_kind_is_refused(server, tmp_path, headers):
    assert ask(server, "api/scan/0/ball/0", BODY, headers=headers)[0] in (400, 413)
    assert not (tmp_path / "tags.csv").exists()


def test_a_body_in_chunks_is_refused(server):
    lines = [f"POST /{TOKEN}/api/classes HTTP/1.1", "Host: localhost"]
    lines += ["Content-Type: application/json", "Transfer-Encoding: chunked"]
    assert speak(server, *lines, body=b"2\r\n{}\r\n0\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_body_that_is_cut_writes_nothing(server, tmp_path):
    lines = [f"POST /{TOKEN}/api/scan/0/ball/0 HTTP/1.1", "Host: localhost"]
    lines += ["Content-Type: application/json", "Content-Length: 500"]
    assert speak(server, *lines, body=json.dumps(BODY).encode()).startswith(b"HTTP/1.1 400 ")
    assert not (tmp_path / "tags.csv").exists()


@pytest.mark.parametrize("line", ["nonsense", "GET", "GET / HTTP/9.9", f"PUT /{TOKEN}/ HTTP/1.1"])
def test_what_is_no_question_ends_the_connection(server, line):
    speak(server, line, "Host: localhost", "Connection: close")
    assert ask(server, "api/state")[0] == 200


def test_a_silent_client_holds_up_nobody(server):
    with socket.create_connection(("127.0.0.1", server.server_port)) as silent:
        silent.sendall(b"POST /")
        assert ask(server, "api/state")[0] == 200


def test_answers_say_what_they_are_and_are_kept_nowhere(server):
    answer = speak(
        server, f"GET /{TOKEN}/api/state HTTP/1.1", "Host: localhost", "Connection: close"
    )
    head = answer.partition(b"\r\n\r\n")[0].decode()
    assert "X-Content-Type-Options: nosniff" in head
    assert "Cache-Control: no-store" in head
    assert "default-src 'none'" in head
    assert "Access-Control" not in head


def test_a_bug_is_one_line_for_the_page_and_a_traceback_for_the_log(server, monkeypatch, caplog):
    def fail(*args):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(server.app, "answer", fail)
    status, answer = ask(server, "api/state")
    assert status == 500
    assert "ZeroDivisionError: of ours" in answer["error"]
    assert "Traceback" not in answer["error"]
    assert "Traceback" in caplog.text


def test_refusals_of_files_are_one_line_in_the_log(server, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "tags.csv").write_text("scene,tags\noffice,lamp\n")
    assert ask(server, "api/scan/0/ball/0", BODY)[0] == 422
    lines = [line for line in caplog.messages if "lamp" in line]
    assert len(lines) == 1
    assert "\n" not in lines[0]


def test_a_port_that_is_taken_is_one_line(server, tmp_path):
    with pytest.raises(UserError, match=f"--port {server.server_port}: "):
        Server(open_app(tmp_path), server.server_port)
    with pytest.raises(UserError, match="--port 70000: "):
        Server(open_app(tmp_path), 70_000)


def test_two_pages_at_once_lose_no_answer(server):
    """Each tags every ball of its scan; both write the same file."""
    counts = [len(ask(server, f"api/scan/{scan}")[1]["balls"]) for scan in (0, 1)]

    def tag_all(scan):
        for ball in range(counts[scan]):
            assert ask(server, f"api/scan/{scan}/ball/{ball}", BODY)[0] == 200

    threads = [threading.Thread(target=tag_all, args=(scan,)) for scan in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [scan["done"] for scan in ask(server, "api/state")[1]["scans"]]
    assert done == counts


def test_of_two_pages_on_one_ball_the_second_is_told(server):
    assert ask(server, "api/scan/0/ball/0", BODY)[0] == 200
    status, answer = ask(server, "api/scan/0/ball/0", BODY | {"tags": [1]})
    assert (status, answer["ball"]["tags"]) == (409, [0])


@contextlib.contextmanager
def started(folder):
    """`mprm tag` in a process of its own, once it answers."""
    command = [
        sys.executable,
        "-m",
        "mprm_jax",
        "tag",
        "--data",
        f"folder:{folder}",
        "--no-browser",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"http://127.0.0.1:(\d+)/(\w+)/", line)
            if found:
                yield process, int(found[1]), found[2]
                break
        else:
            raise AssertionError("".join(lines))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Address:
    def __init__(self, port):
        self.server_port = port


@pytest.mark.slow
def test_killed_at_any_moment_no_acknowledged_answer_is_lost(tmp_path):
    write_rooms(tmp_path)
    acknowledged = 0
    for _ in range(2):
        with started(tmp_path) as (process, port, token):
            address = _Address(port)
            scan = ask(address, "api/scan/0", token=token)[1]
            assert [ball["state"] for ball in scan["balls"]].count("tagged") >= acknowledged
            killer = threading.Timer(0.15, process.kill)
            killer.start()
            with contextlib.suppress(ConnectionError, TimeoutError, OSError):
                for ball in [ball["id"] for ball in scan["balls"] if ball["state"] == "open"]:
                    status, _ = ask(address, f"api/scan/0/ball/{ball}", BODY, token=token)
                    acknowledged += status == 200
            killer.join()
            process.wait()
    with serving(open_app(tmp_path)) as server:
        balls = ask(server, "api/scan/0")[1]["balls"]
    assert [ball["state"] for ball in balls].count("tagged") >= acknowledged > 0


@pytest.mark.slow
def test_an_interrupt_ends_it_and_a_second_one_is_refused_meanwhile(tmp_path):
    write_rooms(tmp_path)
    with started(tmp_path) as (process, _, _):
        command = [sys.executable, "-m", "mprm_jax", "tag", "--data", f"folder:{tmp_path}"]
        second = subprocess.run(
            [*command, "--no-browser"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert second.returncode == 2
        assert "is being written by another process" in second.stderr.splitlines()[-1]
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    assert not (tmp_path / ".lock").exists()
