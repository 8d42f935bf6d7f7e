"""End-to-end encryption of one device: Olm between devices, Megolm for the messages of a conversation.

    box         seals what stands in the device's store
    vault       the tables: pins of devices, sessions, what was seen, mail on its way
    lists       whose devices there are, and who vouches for them
    olm         sessions with other devices, and what they carry
    megolm      sessions of a conversation's messages, one's own and those of others
    asking      who may have a key that it asks for
    machine     all of it for the live path: encrypts, decrypts, takes mail; no I/O but the store, no waiting
    exchange    the part that waits: uploads keys, asks for lists, claims, shares, in one task
    proofs      whether ticks are what the members' devices have signed

The primitives are vodozemac's and libsodium's; formats are Matrix's (`m.olm.v1`, `m.megolm.v1`). A session's state is
in the store before what it has made leaves the device, in one transaction with what belongs to it, and whatever fails
in the store ends the client: what is in memory is never believed after that.
"""
