"""Server and sites of a deployment over real TLS on loopback: who gets in, what goes through, what is told."""

from __future__ import annotations

import contextlib
import datetime
import socket
import threading
import time

import numpy as np
import pytest

pytest.importorskip("flwr")
pytestmark = pytest.mark.filterwarnings("ignore:.*Click 9.0:DeprecationWarning")

from workbench.federated import keys  # noqa: E402
from workbench.federated.deployment.link import Link, LinkError  # noqa: E402
from workbench.federated.deployment.node import Node, NodeError  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("keys") / "k"
    keys.make(made, ["a", "b"])
    keys.own(made / "stranger.key", "stranger")
    keys.make(made / "other", ["a"])
    return made


@contextlib.contextmanager
def serving(folder, tls=True, **given):
    """A link on a free port; its words are in ``heard``. When it is left, nobody listens and no thread is left."""
    heard: list[str] = []
    pair = (folder / "server.crt", folder / "server.key") if tls else (None, None)
    before = set(threading.enumerate())
    with Link("127.0.0.1", 0, keys.allowed(folder / "allowed.txt"), {"fold": 3}, *pair, heard.append, **given) as link:
        link.heard_words = heard
        yield link
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", link.port)) != 0
    until = time.monotonic() + 5
    while (left := {t for t in threading.enumerate() if not t.daemon} - before) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def node(folder, link, name="a", key=None, authority="ca.crt", **given):
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

    def app(message, context):
        doubled = Array(2 * message.content["arrays"]["x"].numpy())
        about = ConfigRecord({"site": context.node_config["name"], "fold": context.run_config["fold"]})
        return Message(RecordDict({"arrays": ArrayRecord({"x": doubled}), "about": about}), reply_to=message)

    private = keys.private(key or folder / "sites" / name / "site.key")
    given = {"patience_s": 1.0, "say": lambda _: None, "app": app} | given
    server = f"127.0.0.1:{link.port}"
    config = {"name": given.pop("called", name)}
    return Node(server, private, config=config, authority=authority and folder / authority, **given)


def running(made):
    """The node in a thread of its own; ``ended`` holds what it ended with."""
    ended = []

    def run():
        try:
            ended.append(made.run())
        except NodeError as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ended


def there(link, n, seconds=10):
    until = time.monotonic() + seconds
    while len(list(link.grid.get_node_ids())) != n:
        assert time.monotonic() < until, link.heard_words
        time.sleep(0.02)


def ask(link, x, timeout=10, to=None):
    """{site: array, or the words of the error}."""
    from flwr.app import Array, ArrayRecord, Message, RecordDict

    record = RecordDict({"arrays": ArrayRecord({"x": Array(x)})})
    nodes = list(link.grid.get_node_ids()) if to is None else to
    messages = [Message(record, n, "query", ttl=60, group_id="0") for n in nodes]
    found = link.grid.send_and_receive(messages, timeout=timeout)
    return {
        link.names[m.metadata.src_node_id]: m.error.reason if m.has_error() else m.content["arrays"]["x"].numpy()
        for m in found
    }


def entered(made):
    """A client of a site that is let in, and nothing more: no heartbeat, no loop."""
    client = made._client()
    client.__enter__()
    made._enter(client)
    return client


def test_arrays_go_both_ways_to_the_bit_and_sites_end_when_told(folder, tmp_path):
    draw = np.random.default_rng(3)
    with serving(folder) as link:
        sites = [running(node(folder, link, n, model=tmp_path / n / "model")) for n in "ab"]
        there(link, 2)
        for x in (draw.normal(size=(7, 3)), np.array([2**62, -1]), np.zeros((0, 4)), draw.normal(size=300_000)):
            answer = ask(link, x)
            assert sorted(answer) == ["a", "b"]
            for got in answer.values():
                assert got.dtype == x.dtype and np.array_equal(got, 2 * x)
        link.end("done", ('{"predictor": "p"}', {"w": draw.normal(size=4)}))
        for thread, ended in sites:
            thread.join(5)
            assert ended == ["done"]
        assert "site 'a' is here." in link.heard_words and "site 'b' has left." in link.heard_words
    for n in "ab":
        kept = tmp_path / n / "model"
        assert sorted(p.name for p in kept.iterdir()) == ["arrays.safetensors", "config.json"]
        assert (kept / "config.json").read_text() == '{"predictor": "p"}'


def test_an_app_that_fails_tells_the_site_why_and_the_server_that(folder):
    def fails(message, context):
        raise ValueError("row 17 of patient 4711")

    with serving(folder) as link:
        heard: list[str] = []
        running(node(folder, link, "a", app=fails, say=heard.append))
        running(node(folder, link, "b"))
        there(link, 2)
        answer = ask(link, np.ones(1))
        assert answer["a"] == "" and np.array_equal(answer["b"], [2])
        assert any("patient 4711" in said for said in heard)
        assert not any("4711" in said for said in link.heard_words)
        assert np.array_equal(ask(link, np.ones(2))["b"], [2, 2])  # and the site is still there
        there(link, 2)
        link.end("done")


def test_a_key_that_is_not_listed_is_turned_away_and_both_ends_say_why(folder):
    with serving(folder) as link:
        stranger = node(folder, link, key=folder / "stranger.key")
        mark = keys.fingerprint(keys.public_pem(stranger.key))
        with pytest.raises(NodeError, match=rf"turned this site away.*{mark}.*allowed.txt"):
            stranger.run()
        assert any(mark in said and "not in the list" in said for said in link.heard_words)
        assert not list(link.grid.get_node_ids())


def test_a_server_that_cannot_be_believed_gets_nothing(folder, monkeypatch):
    with serving(folder) as link:
        with pytest.raises(NodeError, match="not signed by"):
            node(folder, link, authority="other/ca.crt").run()
        with pytest.raises(NodeError, match="seems to speak TLS"):
            node(folder, link, authority=None).run()
    with serving(folder, tls=False) as link, pytest.raises(NodeError, match="does not speak TLS"):
        node(folder, link).run()
    past = keys._now() - datetime.timedelta(days=400)
    with monkeypatch.context() as patch:
        patch.setattr(keys, "_now", lambda: past)
        keys.make(folder / "past", ["a", "b"])
    with serving(folder / "past") as link, pytest.raises(NodeError, match="has expired"):
        node(folder / "past", link).run()


def test_a_certificate_for_another_host_is_refused_by_the_site(folder, monkeypatch):
    with monkeypatch.context() as patch:
        real = keys._alternative
        patch.setattr(keys, "_alternative", lambda host: real(host.replace("127.0.0.1", "10.9.8.7")))
        keys.make(folder / "elsewhere", ["a"])
    with serving(folder / "elsewhere") as link, pytest.raises(NodeError, match=r"another host than '127\.0\.0\.1'"):
        node(folder / "elsewhere", link).run()


def test_without_tls_both_ends_stay_on_this_machine(folder):
    with pytest.raises(LinkError, match="loopback only"):
        Link("0.0.0.0", 0, [], {})
    outside = Node("10.0.0.1:9092", keys.private(folder / "sites/a/site.key"), lambda m, c: m, {})
    with pytest.raises(NodeError, match="loopback only"):
        outside.run()
    with serving(folder, tls=False) as link:
        running(node(folder, link, authority=None))
        there(link, 1)
        assert np.array_equal(ask(link, np.ones(2))["a"], [2, 2])
        with pytest.raises(NodeError, match="turned this site away"):
            node(folder, link, authority=None, key=folder / "stranger.key").run()
        link.end("done")


def test_a_port_that_is_taken_is_named(folder):
    with serving(folder) as link, pytest.raises(LinkError, match=rf"cannot listen on 127.0.0.1:{link.port}.*in use"):
        Link("127.0.0.1", link.port, keys.allowed(folder / "allowed.txt"), {}).__enter__()


def test_nothing_but_the_sites_own_paths_is_served(folder):
    import httpx

    with serving(folder, tls=False) as link, httpx.Client(base_url=f"http://127.0.0.1:{link.port}") as client:
        for path in ("/", "/docs", "/openapi.json", "/v1/control/start-run", "/v1/control/register-node",
                     "/v1/runtime/push-messages", "/v1/fleet/register-node", "/v1/fleet/get-fab"):  # fmt: skip
            assert client.post(path, content=b"").status_code == 404, path
            assert client.get(path).status_code == 404, path
        assert client.get("/v1/fleet/pull-messages").status_code == 404
        assert client.post("/v1/fleet/pull-messages", content=b"").status_code == 401
        assert client.post("/v1/fleet/pull-messages", content=iter([b"x"])).status_code == 413
        with socket.create_connection(("127.0.0.1", link.port), 5) as raw:  # turned away by what it announces
            raw.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: 1099511627776\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_listed_key_without_its_private_half_does_not_get_in(folder):
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    with serving(folder) as link:
        thief = node(folder, link, key=folder / "stranger.key")
        own = thief._client

        def signed_by_another():
            client = own()
            signs = NodeAuthHttpInterceptor(thief.key, keys.private(folder / "sites/a/site.key").public_key())
            client._interceptors = (signs,)
            return client

        thief._client = signed_by_another
        with pytest.raises(NodeError, match="turned this site away"):
            thief.run()
        assert not list(link.grid.get_node_ids())


def test_a_site_answers_for_itself_only(folder):
    """Flower takes an answer under another node's number; here it is refused, and so is another site's name."""
    import httpx
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
    from flwr.proto.node_pb2 import Node as Number

    with serving(folder) as link:
        a, b = node(folder, link, "a"), node(folder, link, "b")
        clients = [entered(a), entered(b)]
        asking = threading.Thread(target=ask, args=(link, np.ones(1), 3, [a._number]), daemon=True)
        asking.start()
        found = None
        while not found or not found.messages_list:
            found = clients[0].PullMessages(PullMessagesRequest(node=Number(node_id=a._number)))
        from flwr.app import Message, RecordDict
        from flwr.supercore.inflatable.inflatable_object import get_object_tree

        head = message_from_proto(found.messages_list[0])
        head.metadata.__dict__["_message_id"] = found.message_object_trees[0].object_id
        forged = Message(RecordDict({}), reply_to=head)
        forged.metadata.__dict__["_message_id"] = forged.object_id
        pushed = PushMessagesRequest(
            node=Number(node_id=b._number), messages_list=[message_to_proto(forged)],
            message_object_trees=[get_object_tree(forged)],
        )  # fmt: skip
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            clients[1].PushMessages(pushed)
        pushed.node.node_id = a._number  # and not with a's number either: the key is b's
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            clients[1].PushMessages(pushed)
        for client in clients:
            client.__exit__(None, None, None)
        asking.join(5)
    with serving(folder) as link:
        running(node(folder, link, "b", called="a"))
        there(link, 1)
        assert "calls it 'a', its key is that of 'b'" in ask(link, np.ones(1))["b"]
        link.end("done")


def test_one_key_is_for_one_process_at_a_time(folder):
    with serving(folder) as link:
        running(node(folder, link))
        there(link, 1)
        heard: list[str] = []
        second = node(folder, link, say=heard.append)
        threading.Thread(target=lambda: contextlib.suppress(NodeError).__enter__() or second.run(), daemon=True).start()
        until = time.monotonic() + 5
        while not heard and time.monotonic() < until:
            time.sleep(0.02)
        assert "is there already" in heard[0]
        assert np.array_equal(ask(link, np.ones(1))["a"], [2])
        link.end("done")
        there(link, 1)  # the first has left, and now the second gets in
        link.end("done")


def test_who_is_silent_is_gone_and_comes_back(folder):
    with serving(folder, silence_s=1.0) as link:
        silent = node(folder, link, "b")
        client = entered(silent)
        running(node(folder, link, "a"))
        there(link, 2)
        began = time.monotonic()
        answer = ask(link, np.ones(1), timeout=20)
        assert np.array_equal(answer["a"], [2]) and isinstance(answer["b"], str)
        assert time.monotonic() - began < 6
        assert any("'b' was not heard of" in said for said in link.heard_words)
        silent._enter(client)
        there(link, 2)
        link.end("done", wait_s=0.2)
        client.__exit__(None, None, None)


def test_what_a_site_took_before_it_was_started_anew_is_lost_at_once_not_waited_for(folder):
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest, PullMessagesRequest
    from flwr.proto.node_pb2 import Node as Number

    with serving(folder) as link:
        made = node(folder, link, "a")
        client, answers = entered(made), []
        asking = threading.Thread(target=lambda: answers.append(ask(link, np.ones(1), 30)), daemon=True)
        asking.start()
        while not client.PullMessages(PullMessagesRequest(node=Number(node_id=made._number))).messages_list:
            pass
        with link.state.lock:  # nobody looks in between
            link.state.deactivate_node(made._number)
            link.state.activate_node(made._number, 10)
        asking.join(5)
        assert answers == [{"a": "started anew after it was asked"}]
        client.DeactivateNode(DeactivateNodeRequest(node_id=made._number))
        client.__exit__(None, None, None)


def test_a_site_waits_for_a_server_that_is_gone_and_comes_back_to_a_new_one(folder):
    heard: list[str] = []
    with serving(folder) as link:
        port = link.port
        made = node(folder, link, patience_s=30.0, say=heard.append)
        thread, ended = running(made)
        there(link, 1)
    pair = (folder / "server.crt", folder / "server.key")
    with Link("127.0.0.1", port, keys.allowed(folder / "allowed.txt"), {"fold": 4}, *pair, heard.append) as link:
        link.heard_words = heard
        there(link, 1, 20)
        assert np.array_equal(ask(link, np.ones(1))["a"], [2])
        link.end("done")
        thread.join(5)
    assert ended == ["done"] and any("trying again" in said for said in heard)


def test_a_server_that_stays_gone_is_given_up_on(folder):
    with serving(folder) as link:
        pass
    with pytest.raises(NodeError, match=r"could not be reached for 1 s"):
        node(folder, link).run()
