"""The suite against RFC 9180, Appendix A.2.1: base mode, X25519, HKDF-SHA256, ChaCha20Poly1305, and its exporter."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pyhpke import KEMKey, KEMKeyPair
from pyhpke.exceptions import PyHPKEError

from worker.private.envelope import SUITE

INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
PT = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
IKM_E = bytes.fromhex("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b")
PK_E = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
SK_E = "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600"
PK_R = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"
SK_R = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"

CIPHERTEXTS = {
    0: "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
    1: "6b53c051e4199c518de79594e1c4ab18b96f081549d45ce015be002090bb119e85285337cc95ba5f59992dc98c",
    2: "71146bd6795ccc9c49ce25dda112a48f202ad220559502cef1f34271e0cb4b02b4f10ecac6f48c32f878fae86b",
    4: "63357a2aa291f5a4e5f27db6baa2af8cf77427c7c1a909e0b37214dd47db122bb153495ff0b02e9e54a50dbe16",
    255: "18ab939d63ddec9f6ac2b60d61d36a7375d2070c9b683861110757062c52b8880a5f6b3936da9cd6c23ef2a95c",
    256: "7a4a13e9ef23978e2c520fd4d2e757514ae160cd0cd05e556ef692370ca53076214c0c40d4c728d6ed9e727a5b",
}
EXPORTS = {
    "": "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e",
    "00": "8c1df14732580e5501b00f82b10a1647b40713191b7c1240ac80e2b68808ba69",
    "54657374436f6e74657874": "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53",
}


def key(secret: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(secret))


def recipient():
    return SUITE.create_recipient_context(
        bytes.fromhex(PK_E), KEMKey.from_pyca_cryptography_key(key(SK_R)), info=INFO
    )


def test_the_keys_are_those_of_the_appendix():
    assert key(SK_E).public_key().public_bytes_raw().hex() == PK_E
    assert key(SK_R).public_key().public_bytes_raw().hex() == PK_R
    assert SUITE.kem.derive_key_pair(IKM_E).private_key.to_private_bytes().hex() == SK_E


def test_every_ciphertext_opens():
    context = recipient()
    for seq in range(257):
        if seq in CIPHERTEXTS:
            assert context.open(bytes.fromhex(CIPHERTEXTS[seq]), b"Count-%d" % seq) == PT
        else:
            with pytest.raises(PyHPKEError):
                context.open(bytes(16), b"")  # uses the nonce up


def test_a_sender_with_the_appendix_ephemeral_key_makes_them():
    pair = KEMKeyPair(
        KEMKey.from_pyca_cryptography_key(key(SK_E)), KEMKey.from_pyca_cryptography_key(key(SK_E).public_key())
    )
    public = KEMKey.from_pyca_cryptography_key(key(SK_R).public_key())
    enc, context = SUITE.create_sender_context(public, info=INFO, eks=pair)
    assert enc.hex() == PK_E
    made = {seq: context.seal(PT, b"Count-%d" % seq).hex() for seq in range(257)}
    assert {seq: made[seq] for seq in CIPHERTEXTS} == CIPHERTEXTS


@pytest.mark.parametrize("label", EXPORTS)
def test_the_exporter(label):
    assert recipient().export(bytes.fromhex(label), 32).hex() == EXPORTS[label]
