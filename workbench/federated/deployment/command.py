"""`workbench federate keys DIR`, `workbench federate serve CONFIG`, `workbench federate join STUDY`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from workbench.federated import output

SERVER = """\
# The server of a federation. `workbench federate serve` reads this file; paths are relative to it.
experiment = "federation.toml"       # what is trained: an experiment with a table [federation]
allowed = "allowed.txt"              # public keys of the sites that are let in
certificate = "server.crt"           # valid until {until}, for {hosts}
key = "server.key"
host = "{host}"                  # another address must be named; 0.0.0.0 listens everywhere
port = {port}
wait_s = 3600                        # longest wait for the least number of sites
settle_s = 60                        # how long to wait for more of them
"""
FEDERATION = """\
# What is trained together. The server reads it and tells each site; the sites open studies of their own.
name = "federation"                  # the run's name
study = "-"                          # each site has its own
endpoint = "ln_ic50"                 # the measured quantity, as the sites' studies call it
split = "unseen subject"             # which of its subjects a site keeps for testing
only = [0]                           # the one fold that is trained
predictors = ["ridge"]               # or drug_response, drug_mean, global_mean
[federation]
least = {least}                            # fewest sites a sum may rest on; with fewer it stops
secure = {secure}                        # true, from three sites on: the server sees nothing but sums
"""
SITE = """\
# A site of a federation. `workbench federate join STUDY --config` reads this file; paths are relative to it.
server = "{server}"
name = "{name}"
ca = "ca.crt"                        # whom to believe that the server is the server
key = "site.key"                     # private: never leaves this machine
policy = "policy.toml"               # what this site answers; yours to decide
ledger = "ledger"                    # folder of the book of what left
model = "model"                      # where the predictor comes to lie that the federation ends with
# roster = "allowed.txt"             # the sites' public keys, had from them and not from the server: with it no server
                                     # can put its own keys in a site's place in a secure sum
"""
POLICY = """\
# What this site answers. Yours to decide; the server never sees this file. See workbench/federated/policy.py.
allowed = {allowed}
minimum_rows = 20
minimum_cell = 5
minimum_subjects = 10
secure = {secure}                    # true: what only its sum is needed of leaves under masks or not at all
alone = {alone}                      # true: numbers may leave that the server needs of this very site
"""


MOST = 1000  # sites that keys are made for at once


def main(argv: list[str]) -> int:
    """``argv`` begins with keys, serve or join; exit status 0 done, 1 it cannot be done, 2 bad usage, 143 ended."""
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:
        return 2 if end.code else 0
    _no_proxy_to_here()
    from workbench.federated.processes import Stopped

    try:
        return int(args.do(args) or 0)
    except Stopped as signal:
        on = "; the same command goes on after the last round that was kept" if args.word == "serve" else ""
        _say(f"ended by {signal}{on}.")
        return 143
    except KeyboardInterrupt:
        _say("stopped.")
        return 1
    except BrokenPipeError:
        raise
    except (ValueError, LookupError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("WORKBENCH_DEBUG"):
            raise
        words = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.stderr.write(f"workbench federate {args.word}: {words}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="workbench federate")
    words = parser.add_subparsers(dest="word", required=True, metavar="WORD")
    k = words.add_parser("keys", help="make keys and certificates, and the files that serve and join read")
    k.add_argument("folder", type=Path, metavar="DIR")
    k.add_argument("--sites", nargs="+", metavar="N|NAME", help="how many sites, or their names")
    k.add_argument("--host", action="append", default=[], help="name or address the sites call the server by")
    k.add_argument("--port", type=int, default=9092)
    k.add_argument("--days", type=int, default=365, help="how long the server's certificate holds")
    k.add_argument(
        "--force", action="store_true", help="overwrite keys that are there: no site gets in with an old one"
    )
    k.add_argument("--renew", action="store_true", help="a new server certificate by the authority in DIR")
    k.add_argument("--own", metavar="NAME", help="at a site: a key pair of its own in DIR, and the line for the server")
    k.set_defaults(do=_keys)
    s = words.add_parser("serve", help="serve a federation to sites elsewhere; goes on where it was killed")
    s.add_argument("config", type=Path, help="server.toml, as `workbench federate keys` makes it")
    s.add_argument("--check", action="store_true", help="read the files, check certificate and keys, listen to nobody")
    s.set_defaults(do=_serve)
    j = words.add_parser("join", help="join a federation with this site's own study")
    j.add_argument("study", help="name or folder of the site's study")
    j.add_argument("--config", type=Path, required=True, help="site.toml, as `workbench federate keys` makes it")
    j.add_argument(
        "--check", action="store_true", help="read the files, check study, key, certificate and policy, call nobody"
    )
    j.set_defaults(do=_join)
    return parser


def _keys(args: argparse.Namespace) -> int:
    from workbench.federated import keys

    if sum(map(bool, (args.own, args.renew, args.sites))) > 1:
        raise keys.KeysError("--sites, --own and --renew do different things; give one of them.")
    if not 0 < args.port < 65536:
        raise keys.KeysError(f"--port {args.port}: a port is a number from 1 to 65535.")
    if args.folder.exists() and not args.folder.is_dir():
        raise keys.KeysError(f"{args.folder} is a file; DIR is a folder, made where there is none.")
    if args.own:
        line = keys.own(args.folder / "site.key", args.own, args.force)
        _site(args.folder, args.own, args.host[0] if args.host else "127.0.0.1", args.port)
        print(
            f"{args.folder / 'site.key'} is made and stays here. This line is for the server's allowed.txt:\n\n{line}\n"
        )
        print("From the server comes ca.crt, which is no secret; it belongs beside site.toml.")
        return 0
    if args.renew:
        made = keys.renew(args.folder, args.host, args.days)
        print(f"{made[0]} holds until {keys.check_certificate(made[0]):%Y-%m-%d}. Start the server again.")
        return 0
    if not args.sites:
        raise keys.KeysError("say how many sites, or their names: --sites 3, or --sites hospital-a hospital-b")
    first = args.sites[0]
    names = [f"site-{i + 1}" for i in range(int(first))] if len(args.sites) == 1 and first.isdigit() else args.sites
    if not 2 <= len(names) <= MOST:
        raise keys.KeysError(
            f"a federation has 2 to {MOST} sites; found {len(names)}: --sites 3, or --sites NAME NAME ..."
        )
    keys.make(args.folder, names, args.host, args.days, args.force)
    until = keys.check_certificate(args.folder / "server.crt")
    host, hosts = args.host[0] if args.host else "127.0.0.1", [*args.host, "127.0.0.1", "localhost"]
    text = SERVER.format(until=f"{until:%Y-%m-%d}", hosts=", ".join(dict.fromkeys(hosts)), host=host, port=args.port)
    least, secure = min(len(names), 3), str(len(names) >= 3).lower()
    _new(args.folder / "server.toml", text)
    _new(args.folder / "federation.toml", FEDERATION.format(least=least, secure=secure))
    for name in names:
        _site(args.folder / "sites" / name, name, host, args.port)
    print(f"server  {args.folder / 'server.toml'}; its certificate holds until {until:%Y-%m-%d}")
    for name in names:
        print(
            f"site    {args.folder / 'sites' / name}: goes to {name!r} by a way nobody else reads, then away from here"
        )
    print("A site that makes its key itself is safer: workbench federate keys DIR --own NAME")
    print(f"What is trained stands in {args.folder / 'federation.toml'}. Then, at the server and at each site:")
    print(f"  workbench federate serve {args.folder / 'server.toml'}")
    print("  workbench federate join STUDY --config site.toml")
    return 0


def _site(folder: Path, name: str, host: str, port: int) -> None:
    server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    _new(folder / "site.toml", SITE.format(server=server, name=name))
    _new(folder / "policy.toml", _policy())


def _policy() -> str:
    """A first policy: all that is asked today, by name, and the strict rest; a site strikes out what it wants."""
    from workbench import rooms
    from workbench.federated.policy import ASKED, STRICT

    allowed = "[\n" + "".join(f'    "{name}",\n' for name in rooms.names(ASKED)) + "]"
    told = {k: str(v).lower() for k, v in STRICT.items()}
    return POLICY.format(allowed=allowed, secure=told["secure"], alone=told["alone"])


def _new(path: Path, text: str) -> None:
    """Write a file a person edits, unless it is there: their words are not overwritten, and it is said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        output.write(path, text)
    elif path.read_text(encoding="utf-8") != text:
        print(f"kept    {path}: it was there; see that host, port and names in it are still right")


def _serve(args: argparse.Namespace) -> int:
    from workbench.federated.deployment import deploy

    serving = deploy.read_serving(args.config)
    if args.check:
        _check_serving(args.config, serving)
        return 0
    from workbench.federated.processes import told_to_end

    if wrong := output.homeless() or output.unwritable(serving.folder):
        raise deploy.DeployError(f"{args.config}: what the server keeps cannot be written: {wrong}")
    with told_to_end():
        run = deploy.serve(serving, _say)
    print(f"run {run.run_id}: {run.status}")
    return 0


def _check_serving(path: Path, serving) -> None:
    from workbench.federated.deployment import deploy

    federation, allowed = deploy.read_federation(serving)
    print(f"{path}: {federation.predictor} by {federation.method}, at least {federation.least} of {len(allowed)} sites")
    for site in allowed:
        print(f"  {site.name:<24} {site.fingerprint}")


def _join(args: argparse.Namespace) -> int:
    from workbench.federated import keys
    from workbench.federated.deployment import deploy
    from workbench.federated.processes import told_to_end

    joining = deploy.read_joining(args.config)
    if args.check:
        from workbench.federated import policy
        from workbench.study import Study, find

        key = keys.fingerprint(keys.public_pem(keys.private(joining.key)))
        print(f"{args.config}: site {joining.name!r}, key {key}, server {joining.server}")
        study, own = Study.open(find(args.study)), policy.read(joining.policy)
        deploy.writable(joining)
        told = "nothing, neither sums nor anything else" if not own.allowed else ", ".join(own.allowed)
        print(f"study {study.name!r}: {study.outcomes.height:,} rows of {study.subjects.height:,} subjects")
        print(f"policy {joining.policy}: answers {told}")
        return 0
    with told_to_end():
        _say(deploy.join(joining, args.study, _say))
    return 0


def _no_proxy_to_here() -> None:
    """What goes to this machine never goes through a proxy, whatever the house has set."""
    near = {"127.0.0.1", "localhost", "::1"}
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(sorted({*filter(None, os.environ.get(name, "").split(",")), *near}))


def _say(what: str) -> None:
    """One line with the time, at once: also where the output goes to a file."""
    import time

    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)
