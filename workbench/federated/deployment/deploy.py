"""A federation across machines: ``serve`` at whoever runs it, ``join`` at each site; both in one process each.

    keys.make(DIR, ["hospital-a", "hospital-b", "hospital-c"], hosts=["federation.example.org"])
    serve(read_serving("DIR/server.toml"))                     # at the server
    join(read_joining("DIR/sites/hospital-a/site.toml"), STUDY)    # at a site, on its own study folder

The server holds no data. It listens on loopback unless another address is named, with TLS and for listed keys only
(``link``). A site calls out and runs nothing but its own installation (``node``); its policy and its ledger are its own
files. After each round the server keeps its state and what passed; killed and started again, it goes on, and the run
that ends holds every round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from workbench import toml_file
from workbench.federated import keys, output
from workbench.federated.deployment.link import Link, is_loopback
from workbench.federated.deployment.node import Node
from workbench.federated.spec import Federation
from workbench.text import nearest

Say = Callable[[str], None]
T = TypeVar("T")


NOT_THE_SERVERS = {  # of a federation file, and of a rehearsal on one machine alone
    "policy": "each site has a policy of its own",
    "faults": "they are planted in a rehearsal, `workbench federate simulate`",
    "arms": "the server has no rows to train them on; a site compares at home, or rehearse with simulate",
    "gated": "every real site has its gate",
}


class DeployError(ValueError):
    """A file for serving or joining says something that cannot be done; names the key and what to write."""


@dataclass(frozen=True)
class Serving:
    """What the server is told, ``server.toml``; paths are relative to the file.

    Attributes
    ----------
    experiment : the federation file; its sites are real ones, so it has no [federation.sites]
    allowed : public keys let in, ``allowed.txt``
    certificate, key : the server's; both missing and ``insecure`` for loopback without TLS
    host, port : where to listen
    wait_s : longest wait for the least number of sites [s]
    settle_s : how long to wait for further sites once enough are there [s]
    silence_s : a site that is not heard of for as long is gone [s]; at least 5
    folder : for state and rounds
    """

    experiment: Path
    allowed: Path
    certificate: Path | None = None
    key: Path | None = None
    host: str = "127.0.0.1"
    port: int = 9092
    wait_s: float = 3600.0
    settle_s: float = 60.0
    silence_s: float = 20.0
    folder: Path = Path("state")
    insecure: bool = False


@dataclass(frozen=True)
class Joining:
    """What a site is told, ``site.toml``; paths are relative to the file.

    Attributes
    ----------
    server : "host:port"
    name : the site's, as in the server's list of keys
    key : the site's private key
    ca : certificate of the federation's authority; missing and ``insecure`` for loopback without TLS
    policy : what the site allows, a file of ``policy``
    ledger : folder of the site's book of what left
    model : folder for the predictor the federation ends with
    patience_s : how long to wait for a server that is gone [s]
    roster : the site's own list of the others' public keys, in the form of allowed.txt, had otherwise than through the
        server; with it keys of secure sums are signed and checked
    """

    server: str
    name: str
    key: Path
    policy: Path
    ca: Path | None = None
    ledger: Path = Path("ledger")
    model: Path = Path("model")
    patience_s: float = 3600.0
    insecure: bool = False
    roster: Path | None = None


def read_serving(path: Path | str) -> Serving:
    """Read ``server.toml``; raises DeployError or KeysError where it cannot be served by."""
    found = _read(Path(path), Serving)
    loopback = is_loopback(found.host)
    if not 0 <= found.port < 65536:
        raise DeployError(f"{path}: port should be 0 (any free one) to 65535, found {found.port}.")
    if found.silence_s < 5:
        raise DeployError(f"{path}: silence_s should be at least 5, found {found.silence_s:g}.")
    if found.insecure and not loopback:
        raise DeployError(f"{path}: insecure = true is for loopback; found host {found.host!r}.")
    if not found.insecure and (found.certificate is None or found.key is None):
        raise DeployError(f"{path}: certificate and key are missing. `workbench federate keys DIR` makes them.")
    if found.insecure:
        return found
    assert found.certificate is not None and found.key is not None
    keys.private(found.key)
    keys.check_certificate(found.certificate, found.host if _named(found.host) else None)
    _belong(found.certificate, found.key)
    return found


def read_federation(serving: Serving) -> tuple[Federation, list[keys.Allowed]]:
    """What is trained, and the sites let in; DeployError where the file says what is not the server's to say."""
    from workbench.federated import spec

    federation, allowed = spec.read(serving.experiment), keys.allowed(serving.allowed)
    where, numbers = serving.experiment, federation.experiment.numbers
    if len(numbers) != 1:
        raise DeployError(f"{where}: sites train one model: only = [0]. Found {len(numbers)} folds.")
    if federation.sites:
        raise DeployError(f"{where}: [federation.sites] deals out one study; here sites bring their own.")
    for key, why in NOT_THE_SERVERS.items():
        if getattr(federation, key):
            raise DeployError(f"{where}: {key} in [federation] does nothing here: {why}. Leave it out.")
    if federation.least > len(allowed):
        raise DeployError(f"{federation.least} sites are needed, and {serving.allowed} lets in {len(allowed)}.")
    return federation, allowed


def read_joining(path: Path | str) -> Joining:
    """Read ``site.toml``; raises DeployError, KeysError or PolicyFileError where it cannot be joined by."""
    from workbench.federated import policy

    found = _read(Path(path), Joining)
    host, _, port = found.server.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise DeployError(f'{path}: server should be "host:port", found {found.server!r}.')
    if found.insecure and not is_loopback(host):
        raise DeployError(f"{path}: insecure = true is for loopback; found server {found.server!r}.")
    if not found.insecure and found.ca is None:
        raise DeployError(f"{path}: ca is missing. The server's ca.crt belongs here; it is no secret.")
    if found.ca is not None and not found.insecure:
        keys.check_certificate(found.ca)
    keys.private(found.key)
    policy.read(found.policy)
    if found.roster is not None:
        from workbench.federated.secure import roster

        roster.read(found.name, found.key, found.roster)
    return found


def serve(serving: Serving, say: Say = print, listening: Callable[[Link], None] | None = None) -> Any:
    """Train with the sites that come, and record it; returns the ``runs.Run``. Goes on where a killed one stopped.

    Parameters
    ----------
    say : hears what happens, a line at a time
    listening : called with the link once it listens

    Raises
    ------
    LinkError, DeployError, KeysError
        It cannot be served so.
    TooFewSites
        Fewer than ``least`` sites came, or stayed.
    """
    from workbench.federated import task
    from workbench.federated.deployment import served as _served
    from workbench.federated.server_app import FlowerSites

    federation, allowed = read_federation(serving)
    certificate, key = (None, None) if serving.insecure else (serving.certificate, serving.key)
    config = task.run_config(federation, federation.experiment.numbers[0])
    link = Link(serving.host, serving.port, allowed, config, certificate, key, say, serving.silence_s)
    with link:
        say(f"listening on {serving.host}:{link.port}{'' if certificate else ', without TLS'}.")
        if listening is not None:
            listening(link)
        why, model = "the server was ended", None
        try:
            _served.prepare(say)  # takes as long as the sites do to come
            met = _gather(link, federation, len(allowed), serving, say)
            sites = FlowerSites(
                link.grid, met, federation.timeout_s, least=federation.least, pause_s=0.05, wait=link.wait
            )
            run, model = _served.record(federation, sites, allowed, serving.folder, say)
            why = "the federation has ended: trained."
        except Exception as error:
            why = f"the federation has ended: {type(error).__name__}."
            raise
        finally:
            if not why.startswith("the server"):  # told to end, it may be started again: the sites wait for that
                link.end(why, model)
    return run


def join(joining: Joining, study: Path | str, say: Say = print) -> str:
    """Take part with the study in the folder ``study`` until the federation ends; returns the reason it ended with."""
    from workbench.federated.client_app import app
    from workbench.federated.gate import ledger
    from workbench.federated.gate.outgoing import BOOK
    from workbench.study import Study, find

    opened = Study.open(find(str(study)))  # a damaged study is told here, not in the middle of a round
    writable(joining)
    told = {
        "name": joining.name, "study": str(opened.path), "policy": str(joining.policy), "ledger": str(joining.ledger)
    }  # fmt: skip
    if joining.roster is not None:
        told |= {"key": str(joining.key), "roster": str(joining.roster)}
    authority = None if joining.insecure else joining.ca
    node = Node(joining.server, keys.private(joining.key), app, told, authority, joining.patience_s, say, joining.model)
    say(f"site {joining.name!r}: study {opened.name!r}, policy {joining.policy}, ledger {joining.ledger}.")
    try:
        return node.run()
    finally:
        say(f"answered {node.answered} times; what left is in {joining.ledger}.")
        if (book := joining.ledger / BOOK).is_file():
            say(f"newest fingerprint of the book, to be kept elsewhere: {ledger.verify(book).head}")


def writable(joining: Joining) -> None:
    """Raise DeployError where nothing could ever leave: the book cannot be written, or does not hold."""
    from workbench.federated.gate import ledger
    from workbench.federated.gate.outgoing import BOOK

    for folder, what in ((joining.ledger, "the book of what leaves"), (joining.model.parent, "the predictor")):
        if why := output.unwritable(folder):
            raise DeployError(
                f"{folder}: {what} cannot be written there ({why}); nothing would leave. Make room, or name another "
                "folder in the site's file."
            )
    book = joining.ledger / BOOK
    if book.is_file() and (faults := ledger.verify(book).faults):
        raise DeployError(
            f"{book} does not hold ({faults[0].rstrip('.')}); nothing leaves until somebody has looked: workbench "
            f"federate ledger {joining.ledger} --verify. A new book is begun in another folder, never in this one."
        )


def _belong(certificate: Path, key: Path) -> None:
    """Raise DeployError where the certificate is another key's."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(str(certificate), str(key))
    except ssl.SSLError as error:
        raise DeployError(
            f"{certificate} is not the certificate of {key} ({error.reason or error}); both come from one "
            "`workbench federate keys`. A new pair: workbench federate keys DIR --renew"
        ) from None


def _gather(link: Link, federation: Federation, allowed: int, serving: Serving, say: Say) -> int:
    """Wait for the least number of sites, then a while for the others; how many there are."""
    from workbench.federated.sites import TooFewSites

    began = newest = time.monotonic()
    there = 0
    say(f"waiting for {federation.least} of {allowed} sites.")
    while True:
        found = len(list(link.grid.get_node_ids()))
        now = time.monotonic()
        newest = now if found > there else newest
        there = found
        if there >= allowed or (there >= federation.least and now - newest > serving.settle_s):
            say(f"{there} of {allowed} sites are here.")
            return there
        if there < federation.least and now - began > serving.wait_s:
            raise TooFewSites(
                f"{there} of the {federation.least} sites needed came within {serving.wait_s:.0f} s. Each site runs "
                "`workbench federate join`; sites turned away are named above."
            )
        time.sleep(0.05)


def _named(host: str) -> bool:
    """Whether sites call the server by ``host``: 0.0.0.0 and :: are places to listen, not names."""
    import ipaddress

    try:
        return not ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return True


def _read(path: Path, kind: type[T]) -> T:
    """A dataclass of the TOML file ``path``: unknown, missing and ill-typed keys are told by name."""
    given = toml_file.read(path, DeployError, hint=" `workbench federate keys DIR` makes one.")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    told: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise DeployError(f"{path}: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.")
        told[key] = _typed(path, key, value, str(known[key].type).removesuffix(" | None"))
    for key, f in known.items():
        if key not in told and f.default is MISSING:
            raise DeployError(f"{path}: the key {key} is missing. Needed: "
                              f"{', '.join(k for k, g in known.items() if g.default is MISSING)}.")  # fmt: skip
        if key not in told and isinstance(f.default, Path):
            told[key] = path.parent.absolute() / f.default
    return kind(**told)


def _typed(path: Path, key: str, value: Any, kind: str) -> Any:
    kinds: dict[str, Any] = {"Path": str, "str": str, "int": int, "bool": bool, "float": (int, float)}
    wanted = kinds[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool") or value == "":
        words = {"Path": "a path", "str": "a text", "int": "a whole number", "bool": "true or false"}
        raise DeployError(f"{path}: {key} should be {words.get(kind, 'a number')}, found {value!r}.")
    if kind == "float" and value <= 0:
        raise DeployError(f"{path}: {key} should be above 0, found {value}.")
    if kind == "Path":
        return path.parent.absolute() / Path(str(value)).expanduser()
    return float(value) if kind == "float" else value
