"""Institutions train together; no row leaves the house; each one sees whether it was worth it.

Server side and site side speak in two words only, whatever carries them (``messages``): an Ask goes to a site, a Reply
comes back. What a site can be asked is a file of ``asked``; every Reply passes the site's own policy and its ledger
before it leaves (``site``). What the server computes from Replies (``statistics``, ``ridge``, ``network``) needs a
``Sites``: one process (``sites.Inline``), Flower's simulation, or its SuperLink and SuperNodes, all the same to it.
"""
