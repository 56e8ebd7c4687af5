"""Certificates and keys of a federation: right, private, never lost by accident, and clear about what is wrong."""

from __future__ import annotations

import datetime
import ipaddress
import stat

import pytest

x509 = pytest.importorskip("cryptography.x509")

from workbench.federated import keys  # noqa: E402
from workbench.federated.deployment import command as deploy_command  # noqa: E402


@pytest.fixture
def made(tmp_path):
    keys.make(tmp_path / "k", ["hospital a", "b"], hosts=["federation.example.org", "10.0.0.7"], days=90)
    return tmp_path / "k"


def _certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_server_certificate_is_for_its_names_signed_by_the_authority_and_for_servers_only(made):
    server, authority = _certificate(made / "server.crt"), _certificate(made / "ca.crt")
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"federation.example.org", "localhost"}
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ipaddress.ip_address(a) for a in ("10.0.0.7", "127.0.0.1")
    }
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    use = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(use) == [x509.ExtendedKeyUsageOID.SERVER_AUTH]
    held = server.not_valid_after_utc - server.not_valid_before_utc
    assert datetime.timedelta(90) < held < datetime.timedelta(90, minutes=6)
    assert keys.check_certificate(made / "server.crt", "10.0.0.7") == server.not_valid_after_utc


def test_private_keys_are_their_owners_alone_and_public_files_hold_none(made):
    private = [made / "ca.key", made / "server.key", *sorted(made.glob("sites/*/site.key"))]
    assert len(private) == 4
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in made.rglob("*"):
        if path.is_file() and path not in private:
            assert b"PRIVATE" not in path.read_bytes()
    site = made / "sites" / "b"
    assert (site / "ca.crt").read_bytes() == (made / "ca.crt").read_bytes()
    site.joinpath("site.key").chmod(0o640)
    with pytest.raises(keys.KeysError, match="mode 640"):
        keys.private(site / "site.key")


def test_listed_keys_are_those_of_the_sites_and_flower_reads_them(made):
    from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes, sign_message
    from flwr.supercore.primitives.asymmetric import verify_signature as verify

    listed = keys.allowed(made / "allowed.txt")
    assert [a.name for a in listed] == ["hospital a", "b"]
    for site in listed:
        private = keys.private(made / "sites" / site.name / "site.key")
        assert keys.public_pem(private) == site.pem == public_key_to_bytes(private.public_key())
        assert verify(bytes_to_public_key(site.pem), b"now", sign_message(private, b"now"))
    assert not verify(bytes_to_public_key(listed[0].pem), b"now", sign_message(private, b"now"))
    assert len({a.fingerprint for a in listed}) == 2


def test_nothing_is_overwritten_unless_that_is_meant(made):
    before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
    with pytest.raises(keys.KeysError, match="exists and would be lost"):
        keys.make(made, ["b", "c"])
    with pytest.raises(keys.KeysError, match="exists and would be lost"):
        keys.own(made / "sites" / "b" / "site.key", "b")
    assert {p: p.read_bytes() for p in made.rglob("*") if p.is_file()} == before
    keys.make(made, ["b", "c"], force=True)
    assert (made / "ca.key").read_bytes() != before[made / "ca.key"]


def test_a_renewed_server_keeps_authority_and_names(made):
    authority, serial = (made / "ca.crt").read_bytes(), _certificate(made / "server.crt").serial_number
    keys.renew(made, days=30)
    server = _certificate(made / "server.crt")
    assert (made / "ca.crt").read_bytes() == authority and server.serial_number != serial
    server.verify_directly_issued_by(_certificate(made / "ca.crt"))
    keys.check_certificate(made / "server.crt", "federation.example.org")
    assert stat.S_IMODE((made / "server.key").stat().st_mode) == 0o600


def test_what_is_wrong_with_a_certificate_is_said(made, monkeypatch):
    with pytest.raises(keys.KeysError, match=r"not for 'other.example.org'.*--renew --host other.example.org"):
        keys.check_certificate(made / "server.crt", "other.example.org")
    later, earlier = keys._now() + datetime.timedelta(91), keys._now() - datetime.timedelta(1)
    monkeypatch.setattr(keys, "_now", lambda: later)
    with pytest.raises(keys.KeysError, match="was valid until"):
        keys.check_certificate(made / "server.crt")
    monkeypatch.setattr(keys, "_now", lambda: earlier)
    with pytest.raises(keys.KeysError, match="is the clock right"):
        keys.check_certificate(made / "server.crt")
    with pytest.raises(keys.KeysError, match="not a certificate"):
        keys.check_certificate(made / "server.key")
    with pytest.raises(keys.KeysError, match="no such file"):
        keys.check_certificate(made / "absent.crt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense\n", "line 1: not a public key"),
        ("# nobody yet\n\n", "names no site"),
        ("{b}{b}", "line 2: name or key stands above already, as 'b'"),
        ("{unnamed}\n", "site's name"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0ySm5Xq0mJmB5gq6k1iXyXGxjKHwE5lqgV5mRr1mKX b\n", "elliptic-curve"),
    ],
)
def test_a_list_of_keys_that_is_not_one_says_where(made, text, said):
    line = (made / "sites/b/site.pub").read_text()
    bad = made / "bad.txt"
    bad.write_text(text.format(b=line, unnamed=line.rsplit(" ", 1)[0]))
    with pytest.raises(keys.KeysError, match=said):
        keys.allowed(bad)


@pytest.mark.parametrize("names", [[], ["../b"], ["a/b"], [""], ["b", "b"], ["line\nbreak"], [" b"]])
def test_names_that_cannot_be_are_refused_before_anything_is_written(tmp_path, names):
    with pytest.raises(keys.KeysError):
        keys.make(tmp_path / "k", names)
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("host", ["not a host", "http://a.b", "-" * 70, "a..b", ""])
def test_hosts_that_cannot_be_are_refused_before_anything_is_written(tmp_path, host):
    with pytest.raises(keys.KeysError, match="neither a host name nor an address"):
        keys.make(tmp_path / "k", ["a"], hosts=[host])
    assert not (tmp_path / "k").exists()


def test_the_command_makes_what_serve_and_join_read(tmp_path, capsys):
    from workbench.federated import policy
    from workbench.federated.deployment import deploy

    folder = tmp_path / "k"
    assert deploy_command.main(["keys", str(folder), "--sites", "2", "--host", "::1", "--port", "9321"]) == 0
    assert "holds until" in capsys.readouterr().out
    serving = deploy.read_serving(folder / "server.toml")
    assert (serving.host, serving.port, serving.certificate) == ("::1", 9321, folder / "server.crt")
    joining = deploy.read_joining(folder / "sites" / "site-2" / "site.toml")
    assert (joining.server, joining.name, joining.ca) == ("[::1]:9321", "site-2", folder / "sites/site-2/ca.crt")
    strict = policy.read(joining.policy)
    assert strict.secure and not strict.alone and "counts" in strict.allowed
    assert deploy_command.main(["keys", str(folder), "--sites", "2"]) == 1
    assert "exists and would be lost" in capsys.readouterr().err
    own = tmp_path / "own"
    assert deploy_command.main(["keys", str(own), "--own", "hospital c"]) == 0
    line = capsys.readouterr().out.split("\n\n")[1]
    (own / "allowed.txt").write_text(line + "\n")
    assert keys.allowed(own / "allowed.txt")[0].pem == keys.public_pem(keys.private(own / "site.key"))
    assert deploy_command.main(["keys", str(own)]) == 1
    assert deploy_command.main(["keys"]) == 2
    assert deploy_command.main(["keys", str(folder), "--renew", "--days", "10"]) == 0
