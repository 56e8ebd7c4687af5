"""What server and site are told, read strictly; processes that end; what passed, kept through a kill."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.federated import journal as _journal
from workbench.federated import keys, needed, policy
from workbench.federated.deployment import command as deploy_command
from workbench.federated.deployment import deploy
from workbench.federated.processes import Processes, Stopped, told_to_end
from workbench.federated.watched import Exchange


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    pytest.importorskip("cryptography")
    folder = tmp_path_factory.mktemp("deploy") / "k"
    assert deploy_command.main(["keys", str(folder), "--sites", "a", "b"]) == 0
    return folder


def _changed(path, tmp_path, *pairs):
    """The file with words replaced, its paths still those beside the first."""
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    for name in ("allowed.txt", "server.crt", "server.key", "ca.crt", "site.key", "policy.toml"):
        text = text.replace(f'"{name}"', f'"{path.parent / name}"')
    other = tmp_path / path.name
    other.write_text(text)
    return other


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("wait_s", "wait", r"unknown key 'wait'.*wait_s"),
        ('allowed = "allowed.txt"', "", "the key allowed is missing"),
        ("port = 9092", "port = 99999", "found 99999"),
        ("port = 9092", 'port = "9092"', "port should be a whole number, found '9092'"),
        ("settle_s = 60", "settle_s = -1", "settle_s should be above 0"),
        ("settle_s = 60", "silence_s = 2", "at least 5"),
        ("settle_s = 60", "settle_s = true", "settle_s should be a number, found True"),
        ('host = "127.0.0.1"', 'host = "10.1.2.3"', "not for '10.1.2.3'"),
        ('host = "127.0.0.1"', 'host = "0.0.0.0"\ninsecure = true', "insecure = true is for loopback"),
        ('key = "server.key"', "", "certificate and key are missing"),
        ("wait_s = 3600", "wait_s = ", "is not TOML"),
        ('key = "server.key"', 'key = "absent.key"', "no such file"),
    ],
)
def test_a_server_file_that_cannot_be_served_by_says_which_word(made, tmp_path, old, new, said):
    with pytest.raises(ValueError, match=said):
        deploy.read_serving(_changed(made / "server.toml", tmp_path, (old, new)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("policy =", "polcy =", r"unknown key 'polcy'.*policy"),
        ('server = "127.0.0.1:9092"', 'server = "127.0.0.1"', '"host:port"'),
        (
            'server = "127.0.0.1:9092"',
            'server = "h.org:9092"\ninsecure = true',
            "insecure = true is for loopback",
        ),
        ('ca = "ca.crt"', "", "ca is missing"),
        ('key = "site.key"', 'key = "ca.crt"', "others may read it|not a private"),
        ('policy = "policy.toml"', 'policy = "none.toml"', "no such policy file"),
        ('name = "a"', "", "the key name is missing"),
    ],
)
def test_a_site_file_that_cannot_be_joined_by_says_which_word(made, tmp_path, old, new, said):
    with pytest.raises(ValueError, match=said):
        deploy.read_joining(_changed(made / "sites/a/site.toml", tmp_path, (old, new)))


def test_files_as_they_are_made_are_read_as_they_are_meant(made, tmp_path):
    serving = deploy.read_serving(made / "server.toml")
    assert (serving.host, serving.port, serving.insecure) == ("127.0.0.1", 9092, False)
    assert serving.folder == made / "state" and serving.allowed == made / "allowed.txt"
    joining = deploy.read_joining(made / "sites/a/site.toml")
    assert joining.ledger == made / "sites/a/ledger" and joining.patience_s == 3600
    everywhere = _changed(made / "server.toml", tmp_path, ('host = "127.0.0.1"', 'host = "0.0.0.0"'))
    assert deploy.read_serving(everywhere).host == "0.0.0.0"
    plain = _changed(made / "sites/a/site.toml", tmp_path, ('ca = "ca.crt"', "insecure = true"))
    assert deploy.read_joining(plain).insecure
    with pytest.raises(deploy.DeployError, match=r"no such file.*server\.toml"):
        deploy.read_serving(made / "sever.toml")
    with pytest.raises(policy.PolicyFileError):
        bad = tmp_path / "policy.toml"
        bad.write_text("alowed = []")
        deploy.read_joining(_changed(made / "sites/a/site.toml", tmp_path, ('"policy.toml"', f'"{bad}"')))


@pytest.mark.filterwarnings("ignore:.*Click 9.0:DeprecationWarning")
def test_commands_say_what_is_wrong_in_one_line(made, tmp_path, capsys):
    assert deploy_command.main(["serve", str(tmp_path / "none.toml")]) == 1
    assert deploy_command.main(["join", "s", "--config", str(tmp_path / "none.toml")]) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == ["workbench federate serve", "workbench federate join"]
    assert deploy_command.main(["join", "s"]) == 2
    assert deploy_command.main(["join", "s", "--config", str(made / "sites/a/site.toml"), "--check"]) == 1
    mark = keys.allowed(made / "allowed.txt")[0].fingerprint
    told = capsys.readouterr()
    assert mark in told.out and "no study 's'" in told.err
    assert deploy_command.main(["join", "nothing", "--config", str(made / "sites/a/site.toml")]) == 1
    assert "nothing" in capsys.readouterr().err


FEDERATION = """
name = "f"
study = "-"
endpoint = "ln_ic50"
split = "unseen subject"
{only}
predictors = ["ridge"]
[federation]
least = {least}
{more}
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"only": ""}, "only = \\[0\\]"),
        ({"least": 3}, "3 sites are needed.*lets in 2"),
        ({"more": "[federation.sites]\nrandom = 5"}, "here sites bring their own"),
        ({"more": "[federation.policy]\nminimum_rows = 5"}, "each site has a policy of its own"),
        ({"more": '[federation.faults]\na = { fault = "nan" }'}, "planted in a rehearsal"),
        ({"more": "gated = true"}, "every real site has its gate"),
        ({"more": 'arms = ["alone"]'}, "the server has no rows to train them on"),
    ],
)
def test_a_federation_that_real_sites_cannot_have_is_refused_before_it_listens(made, tmp_path, given, said):
    path = tmp_path / "federation.toml"
    path.write_text(FEDERATION.format(**({"only": "only = [0]", "least": 2, "more": ""} | given)))
    file = _changed(made / "server.toml", tmp_path, ('"federation.toml"', f'"{path}"'))
    with pytest.raises(deploy.DeployError, match=said):
        deploy.serve(deploy.read_serving(file), lambda _: None)


def test_a_missing_package_is_named_with_its_command():
    with pytest.raises(needed.MissingError, match=r"joining needs the package no_such.*workbench\[federation\]'"):
        needed.need("joining", "no_such")
    assert needed.need("joining", "json").dumps([]) == "[]"


# --- processes -------------------------------------------------------------------------------------------------------

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
words = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", words])
print(child.pid, flush=True)
time.sleep(60)
"""


def _gone(pid, seconds=5.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as stream:
                if stream.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def _said(log, seconds=20.0):
    until = time.monotonic() + seconds
    while not (words := log.read_text() if log.exists() else "").endswith("\n"):
        assert time.monotonic() < until, words
        time.sleep(0.02)
    return words


def test_processes_and_their_children_end_even_when_they_will_not(tmp_path):
    log = tmp_path / "log"
    with pytest.raises(ZeroDivisionError), Processes(patience_s=0.3) as started:
        process = started.start("stubborn", [sys.executable, "-c", STUBBORN], log)
        child = int(_said(log))
        with pytest.raises(RuntimeError, match="runs already"):
            started.start("stubborn", ["true"], log)
        raise ZeroDivisionError
    assert process.returncode == -signal.SIGKILL
    assert _gone(child)
    assert not started.running


def test_one_that_ends_when_it_is_told_is_not_killed(tmp_path):
    with Processes() as started:
        started.start("sleeper", ["sleep", "60"], tmp_path / "log")
        assert started.wait("sleeper", 0.05) is None
        assert started.end("sleeper") == -signal.SIGTERM
        started.start("quick", ["true"], tmp_path / "log")
        assert started.wait("quick", 10) == 0


def test_started_processes_die_with_a_starter_that_is_killed_outright(tmp_path):
    starter = (
        "import sys, time; from pathlib import Path\n"
        "from workbench.federated.processes import Processes\n"
        "p = Processes(); q = p.start('x', ['sleep', '60'], Path(sys.argv[1]))\n"
        "print(q.pid, flush=True); time.sleep(60)"
    )
    with Processes() as started:
        log = tmp_path / "log"
        started.start("starter", [sys.executable, "-c", starter, str(tmp_path / "inner")], log)
        child = int(_said(log))
        os.kill(started.running["starter"].pid, signal.SIGKILL)
        assert _gone(child)


def test_told_to_end_raises_once_and_gives_the_handlers_back():
    before = signal.getsignal(signal.SIGTERM)
    reached = []
    with pytest.raises(Stopped, match="SIGTERM"), told_to_end():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except Exception:  # an ordinary handler of errors does not swallow it
            reached.append("swallowed")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # a second one does not cut the way out short
            reached.append("cleaned")
    assert reached == ["cleaned"] and signal.getsignal(signal.SIGTERM) is before


# --- what passed -----------------------------------------------------------------------------------------------------


def test_a_journal_goes_on_after_a_kill_and_begins_anew_for_another_training(tmp_path):
    path = tmp_path / "state" / "rounds.jsonl"
    first = _journal.Journal(path, "m", None)
    passed = Exchange("moments", 2, 0.25, 80, {"a": 40}, {"a": {"loss": 0.5}}, {"b": "not connected"})
    first.add(passed)
    first.point(2, {"loss": 0.5})
    with path.open("a") as stream:
        stream.write('{"round": 3, "figu')  # torn by a kill
    second = _journal.Journal(path, "m", (2, {}, {"loss": 0.5}))
    assert second.exchanges == [passed] and second.points == [(2, {"loss": 0.5})]
    second.point(3, {"loss": 0.25})
    last = (4, {}, {"loss": 0.125, "plan": "{}"})  # killed after the state was kept and before the round stood here
    assert _journal.Journal(path, "m", last).points == [(2, {"loss": 0.5}), (3, {"loss": 0.25}), (4, {"loss": 0.125})]
    other = _journal.Journal(path, "other", last)
    assert other.points == [(4, {"loss": 0.125})] and other.exchanges == []
    assert _journal.Journal(path, "m", None).points == []
    _journal.Journal(path, "m", None).drop()
    assert not path.exists()


def test_the_predictor_a_site_keeps_is_the_one_that_was_sent(tmp_path: Path) -> None:
    """Weights made by a product or a pick of columns lie column by column in memory; the file is read row by row."""
    pytest.importorskip("flwr")
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
    from safetensors.numpy import load_file

    from workbench.federated.deployment import node

    sent = np.arange(12.0).reshape(3, 4)
    columns = np.asfortranarray(sent)
    content = RecordDict(
        {"about": ConfigRecord({"why": "trained", "model": "{}"}), "arrays": ArrayRecord({"weights": Array(columns)})}
    )
    site = node.Node("127.0.0.1:1", None, None, {}, model=tmp_path / "model", say=lambda text: None)  # type: ignore[arg-type]
    assert site._ended(content) == "trained"
    np.testing.assert_array_equal(load_file(tmp_path / "model" / "arrays.safetensors")["weights"], sent)


# --- what would fail in the middle is told at the start --------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--sites", "1"], "2 to 1000 sites; found 1"),
        (["--sites", "2", "--port", "99999"], "from 1 to 65535"),
        (["--sites", "2", "--days", "0"], "at least 1 day"),
        (["--sites", "a", "../b"], "cannot be a site's name"),
        (["--sites", "a", "a"], "named twice"),
        (["--sites", "2", "--own", "c"], "give one of them"),
        ([], "say how many sites"),
    ],
)
def test_keys_that_cannot_be_are_refused_and_nothing_is_written(tmp_path, capsys, argv, said):
    pytest.importorskip("cryptography")
    assert deploy_command.main(["keys", str(tmp_path / "k"), *argv]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "k").exists()


def test_keys_made_anew_keep_what_people_wrote_and_say_so(tmp_path, capsys):
    pytest.importorskip("cryptography")
    assert deploy_command.main(["keys", str(tmp_path), "--sites", "a", "b"]) == 0
    (tmp_path / "server.toml").write_text("# mine\n")
    capsys.readouterr()
    assert deploy_command.main(["keys", str(tmp_path), "--sites", "a", "b", "--force"]) == 0
    assert f"kept    {tmp_path / 'server.toml'}" in capsys.readouterr().out
    assert (tmp_path / "server.toml").read_text() == "# mine\n"


def test_the_federation_file_that_keys_makes_can_be_served(made, tmp_path, capsys):
    assert deploy_command.main(["serve", str(made / "server.toml"), "--check"]) == 0
    assert "ridge by ridge, at least 2 of 2 sites" in capsys.readouterr().out
    three = tmp_path / "three"
    assert deploy_command.main(["keys", str(three), "--sites", "3"]) == 0
    federation, allowed = deploy.read_federation(deploy.read_serving(three / "server.toml"))
    assert federation.secure and federation.least == len(allowed) == 3


def test_a_certificate_of_another_key_is_named(made, tmp_path):
    assert deploy_command.main(["keys", str(tmp_path / "o"), "--sites", "a", "b"]) == 0
    text = (made / "server.toml").read_text()
    for name, at in (("server.crt", tmp_path / "o"), ("server.key", made), ("allowed.txt", made)):
        text = text.replace(f'"{name}"', f'"{at / name}"')
    (tmp_path / "server.toml").write_text(text)
    with pytest.raises(deploy.DeployError, match=r"is not the certificate of .*server.key"):
        deploy.read_serving(tmp_path / "server.toml")


def test_a_site_whose_book_cannot_be_written_or_does_not_hold_does_not_join(made, tmp_path):
    site = deploy.read_joining(made / "sites/a/site.toml")
    deploy.writable(site)
    assert not site.ledger.exists()  # a look leaves nothing
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(deploy.DeployError, match="cannot be written there"):
        deploy.writable(replace(site, ledger=tmp_path / "file" / "ledger"))
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "ledger.jsonl").write_text("{}\n")
    with pytest.raises(deploy.DeployError, match=r"does not hold \(line 1 is no entry.*--verify"):
        deploy.writable(replace(site, ledger=tmp_path / "ledger"))
