"""The masked autoencoder: what counts in its loss, and what its encoder sees."""

from __future__ import annotations

import pytest
import torch

from workbench.nn.masked import MaskedAutoencoder


def test_only_what_is_hidden_and_there_costs() -> None:
    torch.manual_seed(0)
    net = MaskedAutoencoder(2, {"a": 5, "b": 4}, 6, 3)
    n = 30
    x = {"a": torch.randn(n, 5), "b": torch.randn(n, 4)}
    presence = torch.ones(n, 2)
    presence[:10, 1] = 0
    hidden = net.draw(presence, torch.Generator().manual_seed(1))
    learns = torch.rand(2, n) < 0.6
    loss = net.loss(x, presence, hidden, learns)
    # by hand, one number after the other
    with torch.no_grad():
        total, many = 0.0, 0
        z = net.encode(
            {m: ((x[m] @ (q := getattr(net, f"turn_{m}"))) * ~hidden.coordinates[m]) @ q.T / 0.7 for m in x},
            presence * ~hidden.whole,
        )
        for i, m in enumerate(x):
            turn = getattr(net, f"turn_{m}")
            away = ((net.decoders[m](z) - x[m]) @ turn).numpy()
            for e in range(2):
                for s in range(n):
                    for k in range(away.shape[2]):
                        counts = presence[s, i] and (hidden.whole[s, i] or hidden.coordinates[m][s, k])
                        if counts and learns[e, s]:
                            total, many = total + float(away[e, s, k]) ** 2, many + 1
    assert float(loss.detach()) == pytest.approx(total / many, rel=1e-5) and many >= 100
    # what is not there, or is not hidden, may be anything
    x["b"][:10] = 1e6
    assert float(net.loss(x, presence, hidden, learns).detach()) == pytest.approx(total / many, rel=1e-5)
    assert not hidden.whole[:10].any(), "a sample's last modality is never hidden"
    assert 0.2 < float(hidden.coordinates["a"].float().mean()) < 0.4


def test_what_is_hidden_is_not_seen_by_the_encoder() -> None:
    torch.manual_seed(0)
    net = MaskedAutoencoder(1, {"a": 6, "b": 4}, 6, 3)
    x = {"a": torch.randn(20, 6), "b": torch.randn(20, 4)}
    presence = torch.ones(20, 2)
    hidden = net.draw(presence, torch.Generator().manual_seed(2))
    other = {m: v.clone() for m, v in x.items()}
    for i, m in enumerate(x):  # other values wherever something is hidden
        turn = getattr(net, f"turn_{m}")
        w = hidden.coordinates[m] | hidden.whole[:, i, None]
        other[m] = ((x[m] @ turn) + 3.0 * w) @ turn.T
    told = []
    for values in (x, other):
        kept: dict[str, torch.Tensor] = {}
        hook = net.decoders["a"].register_forward_hook(lambda _m, z, _o, kept=kept: kept.update(z=z[0].detach()))
        net.errors(values, presence, hidden)
        hook.remove()
        told.append(kept["z"])
    torch.testing.assert_close(told[0], told[1], atol=1e-4, rtol=0)
