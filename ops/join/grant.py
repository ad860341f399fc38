"""What a new host is handed, and what it says of itself to get it."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_serializer

from tasks.frozen import Frozen


class Grant(Frozen):
    """Everything that a fleet's hosts share. `ca`: PEM, "" = none of our own. Keys: base64, the one in use first.

    A bridge's private key is not in it: a host that only serves has no use for one.
    """

    redis_url: SecretStr
    ca: str = ""
    fleet_keys: tuple[SecretStr, ...] = Field(min_length=1)
    workload_keys: tuple[SecretStr, ...] = ()

    @field_serializer("redis_url", "fleet_keys", "workload_keys")
    def _in_clear(self, value: SecretStr | tuple[SecretStr, ...]) -> str | list[str]:
        """It is serialised to be sealed and for nothing else; `repr` shows stars."""
        return value.get_secret_value() if isinstance(value, SecretStr) else [one.get_secret_value() for one in value]


class Ask(Frozen):
    """A host asks. `node`: its WORKER_ID; `nonce`: 16 random bytes in hex; `proof`: see `sealing.proof`."""

    node: str = Field(min_length=1, max_length=100)
    version: str = Field(default="", max_length=50)
    nonce: str = Field(min_length=32, max_length=32, pattern="^[0-9a-f]+$")
    proof: str = Field(min_length=64, max_length=64, pattern="^[0-9a-f]+$")


class Answer(Frozen):
    """Either `sealed` (base64 of a sealed `Grant`), or why not: a code of `JoinError` and its words."""

    sealed: str = Field(default="", repr=False)
    code: str = ""
    message: str = ""
