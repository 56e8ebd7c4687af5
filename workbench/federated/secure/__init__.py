"""Secure aggregation: the server learns the sum over sites and no site's part of it.

The conversation is that of Bonawitz et al. (2017, "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS) on the sparse graph of Bell et al. (2020, "Secure Single-Server Aggregation with (Poly)Logarithmic
Overhead", CCS; "SecAgg+"), in five asks over whatever carries asks and replies:

    secure_keys       every site makes two X25519 key pairs for this conversation alone and sends the public halves
    secure_shares     every site deals Shamir shares of its mask key and of its self-mask seed to its neighbours, each
                      sealed so that only that neighbour can read it; the server passes them on
    secure_masked     every site answers what was asked, in fixed point modulo 2^64, plus its self-mask, plus or minus
                      one mask for each neighbour (the pair's masks cancel in the sum)
    secure_survivors  every site signs the list it is given of sites whose parts arrived; one list, once
    secure_unmask     where more than half of the sites, three at least, signed that very list: for each site on it a
                      share of its self-mask seed, for each lost one a share of its mask key; never both of one site

``server.Secure`` is the server's side, ``conversation`` the site's; ``fixed_point``, ``masks``, ``shares`` and
``graph`` are the four ideas both need; ``roster`` is whom a site knows.

Threat model
------------
What is trusted: a site's own machine; the list of the other sites' lasting public keys (``roster``; ``roster`` in
site.toml), which must have come from them by another way than the server, and that each private half is known at its
site alone. With that list, nothing else the server says is believed: sites sign their fresh keys and the list of
survivors, and check both. **Without the list nothing is signed**, and all of the following holds only against a server
that follows the conversation and looks at everything it sees: one that lies can put its own keys in the place of the
other sites' and unmask one site, or tell each site other survivors.

Against a server that lies, and up to ``threshold`` - 1 sites in league with it among those that hold one site's shares:
it learns the sum over three sites or more, those in league among them, and what follows from it and their parts. The
threshold is more than half of the shares, and sites refuse a lower one, so that a server that asks some sites for one
kind of share and the others for the other kind cannot get both. Of two lists of survivors one at most is signed by more
than half of the sites; with c sites on the server's side, which sign both, it takes more than (sites + c) / 2
(``Secure``'s ``threshold``), at the price of fewer sites that may be lost. The signature covers the names, keys,
threshold, question, round, survivors and lost (figure 4, round 3 of Bonawitz et al.).

A server may also ask sites different things, so that all but one answer with zeros (Pasquini et al. 2022, "Eluding
Secure Aggregation in Federated Learning via Model Inconsistency", CCS). Masks of a pair are bound to what was asked, so
those of two sites that were asked differently do not cancel, and the sum is noise.

A site refuses, whoever asks: both shares of one neighbour; a second list, a second opening; a conversation or a key
seen before; fewer than three survivors (of two, each knows the other's part), or a list of survivors that leaves itself
out; and to sign for a second sum of the same rows whose survivors differ from an earlier one's by one or two sites, as
the difference is theirs. The same rows are meant whatever is asked of them and in whatever round: moments, axes, Gram
matrices and products of one modality can be worked out from each other. Excepted are noisy sums, and changes of weights
(``Leaves.moving``), of which a site may miss a round: there only the same question is refused. So a site that is lost
in the middle of a federated ridge ends it, where plain sums begin anew without it.

What that does not stop. Two rounds of training in which the server sends nearly the same weights differ by a site's own
update nearly exactly; only noise helps. What sites remember of sums they signed (``opened``) lasts as long as their
process and the run: a run that is begun again without a site tells its part of every exact sum to a server that kept
the first, and sites that were all started again know nothing of the time before. As long as more than half of a sum's
sites remember, two sums that differ by one site cannot both be opened: some honest site would have to sign both. Of two
that differ by two sites the same holds for even numbers of sites; among an odd number it takes a threshold one higher.

A site may also send a wrong number: a masked part cannot be checked, only that it is finite, which the site itself sees
to before it masks, and that rows and shares of the sum agree (``robust.updates``). So robust rules and secure sums
exclude one another.

What the sum still tells: itself. The server sees the exact sum over at least three sites, the total of rows, who took
part, and the names and shapes of the arrays. Two sums that differ by one site's presence give that site's part; a sum
to which one site alone contributes (a tissue only it treats) is that site's part. Against that stand the rules for
small cells in the ``asked`` files, which act before the mask, and differential privacy.
"""
