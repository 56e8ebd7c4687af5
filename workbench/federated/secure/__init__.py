"""Secure aggregation: the server learns the sum over sites and no site's part of it.

The conversation is that of Bonawitz et al. (2017, "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS) on the sparse graph of Bell et al. (2020, "Secure Single-Server Aggregation with (Poly)Logarithmic
Overhead", CCS; "SecAgg+"), in four asks over whatever carries asks and replies:

    secure_keys     every site makes two X25519 key pairs for this conversation alone and sends the public halves
    secure_shares   every site deals Shamir shares of its mask key and of its self-mask seed to its neighbours, each
                    sealed so that only that neighbour can read it; the server passes them on
    secure_masked   every site answers what was asked, in fixed point modulo 2^64, plus its self-mask, plus or minus
                    one mask for each neighbour (the pair's masks cancel in the sum)
    secure_unmask   for each site either shares of its self-mask seed (its part arrived) or of its mask key (it did
                    not): never both

``server.Secure`` is the server's side, ``conversation`` the site's; ``fixed_point``, ``masks``, ``shares`` and
``graph`` are the four ideas both need.

Threat model
------------
Safe against a server that follows the conversation and looks at everything it sees, together with up to
``threshold`` - 1 colluding sites among those that hold one site's shares: they learn the sum over the survivors and
what follows from it and from their own parts. The threshold is more than half of the shares, and sites refuse a lower
one, so that a server that asks some sites for one kind of share and the others for the other kind cannot get both;
with c sites on its side as well that takes a threshold of more than half of the shares plus c / 2 (``Secure``'s
``threshold``), at the price of fewer sites that may be lost.

A site refuses, whoever asks: both shares of one neighbour; a second opening; a conversation or a key seen before; fewer
than three survivors (of two, each knows the other's part), or a list of survivors that leaves itself out; and to open a
second sum of the same ask whose survivors differ from the first one's by one or two sites, as the difference is theirs.
That catches an ask repeated for a site that was away; a server that words it otherwise is not caught.

A server that lies: the public keys come through it, so it may put its own in the place of the other sites' and unmask
one site. Sites that hold a list of one another's lasting keys (``roster``; ``roster`` in site.toml) sign theirs and
refuse what is not signed; without the list this attack goes unseen.

Not built, and so not claimed: the consistency check of Bonawitz et al. (their round 3, for servers that lie), in which
sites sign the list of survivors and open nothing before they have seen a threshold of signatures under the same list.
Without it a server may tell each site another list. What that gives it is bounded: every site opens one list only, with
itself and at least a threshold t of the n holders on it, and each secret takes t of them. One sum is opened at most,
and it leaves out at most n (n - t) / t sites, so it is over n (2 t - n) / t at least, rounded up: three or more where n
is even, but two where n is odd from 5 on and t is the least the sites accept, (n + 1) / 2. Of two, each knows the
other's part, and a server in league with one of them learns the other's. ``Secure(threshold=...)`` one higher closes
that, at the price of one site fewer that may be lost. What sites remember of sums they opened (``opened``) lives as
long as their process: one that was started again does not know that the same was summed before.

A site may also send a wrong number: a masked part cannot be checked, only that it is finite, which the site itself sees
to before it masks, and that rows and shares of the sum agree (``robust.updates``). So robust rules and secure sums
exclude one another.

What the sum still tells: itself. The server sees the exact sum over at least three sites, the total of rows, who took
part, and the names and shapes of the arrays. Two sums that differ by one site's presence give that site's part; a sum
to which one site alone contributes (a tissue only it treats) is that site's part. Against that stand the rules for
small cells in the ``asked`` files, which act before the mask, and differential privacy.
"""
