"""A native sampler chain for one request's parameters, in llama-server's default order.

bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, draw. Temperature 0 takes the most
likely token: what only cuts off the unlikely is left out then. Mirostat replaces all but bias and temperature.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llama_cpp import llama_cpp as lib

from worker.engine.api import SamplingParams
from worker.engine.vocab import Vocab

_RANDOM = lib.LLAMA_DEFAULT_SEED
_MOST_TOP_K = 1024
SAMPLERS = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
"""llama-server's names, in its default order."""
_MIROSTAT_M = 100
"""Candidates mirostat 1 estimates its exponent from, as in llama-server."""


@dataclass(frozen=True, slots=True)
class Chain:
    """`address` of the whole chain (it owns its samplers); `draws` of those that draw once for each token."""

    address: int
    draws: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Effect:
    """What parameters amount to. `greedy`: the most likely token, whatever came before, without a chain.

    `window`: how many of the last tokens matter. `enough`: so many of the best tokens surely contain the one that is
    chosen; 0 = it takes them all.
    """

    greedy: bool
    window: int
    enough: int


def effect(params: SamplingParams, ctx_limit: int) -> Effect:
    """Pure. `ctx_limit` is what "the whole context" means."""
    repeat = _last(params.repeat_last_n, ctx_limit) if _penalises(params) else 0
    dry = _last(params.dry_penalty_last_n, ctx_limit) if _dries(params) else 0
    if _ordered(params) is not None:
        return Effect(greedy=False, window=max(repeat, dry), enough=0)
    return Effect(
        greedy=params.temperature <= 0 and not (repeat or dry or params.logit_bias or _reorders(params)),
        window=max(repeat, dry),
        enough=_enough(params, repeat + dry),
    )


def build(params: SamplingParams, vocab: Vocab, ctx_limit: int) -> Chain:
    """A new chain; `native.sampler_free` its address when the sequence ends."""
    chain_params = lib.llama_sampler_chain_default_params()
    chain_params.no_perf = True
    chain = lib.llama_sampler_chain_init(chain_params)
    draws = []
    for sampler, random in _samplers(params, vocab, ctx_limit):
        lib.llama_sampler_chain_add(chain, sampler)
        if random:
            draws.append(_address(sampler))
    return Chain(_address(chain), tuple(draws))


def _samplers(params: SamplingParams, vocab: Vocab, ctx_limit: int) -> Iterator[tuple[Any, bool]]:
    """Each sampler, and whether it draws once for each token (mirostat's state hangs on more than that)."""
    seed = _RANDOM if params.seed is None else params.seed & 0xFFFFFFFF
    greedy = params.temperature <= 0
    if params.logit_bias:
        yield _bias(params, vocab), False
    if params.mirostat and not greedy:
        yield lib.llama_sampler_init_temp(params.temperature), False
        yield _mirostat(params, vocab, seed), False
        return
    order = _ordered(params)
    if order is not None:
        for name in order:
            yield from _named(name, params, vocab, ctx_limit, seed)
        yield lib.llama_sampler_init_dist(seed), True
        return
    if not params.mirostat:
        yield from _repetition(params, vocab, ctx_limit)
        if not greedy or _reorders(params):
            yield from _cuts(params, seed)
    if greedy:
        yield lib.llama_sampler_init_greedy(), False
    else:
        yield _temperature(params), False
        yield lib.llama_sampler_init_dist(seed), True


def _repetition(params: SamplingParams, vocab: Vocab, ctx_limit: int) -> Iterator[tuple[Any, bool]]:
    for name in SAMPLERS[:2]:
        yield from _named(name, params, vocab, ctx_limit, _RANDOM)


def _cuts(params: SamplingParams, seed: int) -> Iterator[tuple[Any, bool]]:
    for name in SAMPLERS[2:-1]:
        yield from _cut(name, params, seed)


def _named(name: str, params: SamplingParams, vocab: Vocab, ctx_limit: int, seed: int) -> Iterator[tuple[Any, bool]]:
    """The sampler of this name, unless the parameters leave it nothing to do."""
    if name == "penalties" and _penalises(params):
        penalties = (params.repeat_penalty, params.frequency_penalty, params.presence_penalty)
        last_n = _last(params.repeat_last_n, ctx_limit)
        yield lib.llama_sampler_init_penalties(vocab.size, last_n, *penalties), False
    elif name == "dry" and _dries(params):
        yield _dry(params, vocab, ctx_limit), False
    elif name == "temperature":
        yield _temperature(params), False
    else:
        yield from _cut(name, params, seed)


def _cut(name: str, params: SamplingParams, seed: int) -> Iterator[tuple[Any, bool]]:
    if name == "top_n_sigma" and params.top_n_sigma > 0:
        yield lib.llama_sampler_init_top_n_sigma(params.top_n_sigma), False
    elif name == "top_k":
        yield lib.llama_sampler_init_top_k(params.top_k), False
    elif name == "typ_p" and params.typical_p < 1:
        yield lib.llama_sampler_init_typical(params.typical_p, 0), False
    elif name == "top_p":
        yield lib.llama_sampler_init_top_p(params.top_p, 0), False
    elif name == "min_p":
        yield lib.llama_sampler_init_min_p(params.min_p, 0), False
    elif name == "xtc" and _excludes(params):
        yield lib.llama_sampler_init_xtc(params.xtc_probability, params.xtc_threshold, 0, seed), True


def _bias(params: SamplingParams, vocab: Vocab) -> Any:
    biases = dict(params.logit_bias)  # llama.cpp treats a token named twice now this way, now that
    pairs = [lib.llama_logit_bias(token, bias) for token, bias in biases.items()]
    return lib.llama_sampler_init_logit_bias(vocab.size, len(pairs), (lib.llama_logit_bias * len(pairs))(*pairs))


def _dry(params: SamplingParams, vocab: Vocab, ctx_limit: int) -> Any:
    breakers = [text.encode("utf-8", "replace") for text in params.dry_sequence_breakers]
    texts = (ctypes.c_char_p * len(breakers))(*breakers)
    return lib.llama_sampler_init_dry(
        vocab.handle,
        params.dry_multiplier,
        params.dry_base,
        params.dry_allowed_length,
        _last(params.dry_penalty_last_n, ctx_limit),
        texts,
        len(breakers),
    )


def _mirostat(params: SamplingParams, vocab: Vocab, seed: int) -> Any:
    if params.mirostat == 1:
        target = (params.mirostat_tau, params.mirostat_eta, _MIROSTAT_M)
        return lib.llama_sampler_init_mirostat(vocab.size, seed, *target)
    return lib.llama_sampler_init_mirostat_v2(seed, params.mirostat_tau, params.mirostat_eta)


def _temperature(params: SamplingParams) -> Any:
    if params.dynatemp_range <= 0:
        return lib.llama_sampler_init_temp(params.temperature)
    return lib.llama_sampler_init_temp_ext(params.temperature, params.dynatemp_range, params.dynatemp_exponent)


def _ordered(params: SamplingParams) -> tuple[str, ...] | None:
    """The order that was asked for, where there is anything to order."""
    return None if params.mirostat else params.samplers


def _last(last_n: int, ctx_limit: int) -> int:
    return ctx_limit if last_n < 0 else last_n


def _penalises(params: SamplingParams) -> bool:
    if params.repeat_last_n == 0 or params.mirostat or not _used(params, "penalties"):
        return False
    return params.repeat_penalty != 1.0 or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0


def _dries(params: SamplingParams) -> bool:
    asked = params.dry_multiplier > 0 and params.dry_penalty_last_n != 0 and not params.mirostat
    return asked and _used(params, "dry")


def _used(params: SamplingParams, name: str) -> bool:
    return params.samplers is None or name in params.samplers


def _excludes(params: SamplingParams) -> bool:
    """XTC can be at work: no two tokens are both above one half."""
    return params.xtc_probability > 0 and params.xtc_threshold <= 0.5  # noqa: PLR2004  # said above


def _reorders(params: SamplingParams) -> bool:
    """Something removes even the most likely token."""
    return not params.mirostat and (params.typical_p < 1 or _excludes(params))


def _enough(params: SamplingParams, penalised: int) -> int:
    """How many of the best tokens surely contain the top k, however penalties and biases move them; 0 = unknown.

    Penalties only push down, so with as many spare tokens as can be pushed the top k is among them. What is measured
    over all tokens needs all tokens.
    """
    best_only = params.temperature <= 0 and not _reorders(params)
    top_k = 1 if best_only else params.top_k
    whole = not best_only and (params.mirostat > 0 or params.top_n_sigma > 0)
    raises = params.repeat_penalty < 1 or params.frequency_penalty < 0 or params.presence_penalty < 0
    if whole or not 0 < top_k <= _MOST_TOP_K or penalised > _MOST_TOP_K or (penalised and raises):
        return 0
    return top_k + penalised + len(params.logit_bias)


def _address(pointer: Any) -> int:
    return int(ctypes.cast(pointer, ctypes.c_void_p).value or 0)
