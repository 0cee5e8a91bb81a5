"""Routes that need no generation: embeddings, rerank, tokenize, detokenize, models, health, version."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

from fastapi import APIRouter, Request, Response

from assistant.profiles.profile import Profile
from service.api.permitted_calls import open_call
from service.api.reading.read_request import DIRECT, detokenize_exactly, read_model
from service.api.rendering.render_chat import dump, make_fingerprint
from service.api.route_parts import KeyedRoute, get_caller, get_request_id, get_service, make_headers
from service.api.text_vectors import TextVectors
from service.api.wire.text_wire import (
    DetokenizeReply,
    DetokenizeRequest,
    EmbeddingReply,
    EmbeddingRequest,
    HealthReply,
    ModelReply,
    ModelsReply,
    ReadyReply,
    RerankReply,
    RerankRequest,
    TokenizeReply,
    TokenizeRequest,
    VersionReply,
)
from service.api.wire.wire_model import ERRORS, refuse_known_fields
from service.service_error import ServiceError
from service.service_parts import Service

EMBED = "embed"  # NAME/embed: another name for NAME in embeddings and rerank
CREATED = 1_767_225_600  # 2026-01-01: models have no date of their own
REFUSED_TOKENIZE: dict[str, tuple[Any, str]] = {
    "messages": ((), "send prompt; usage of an answer has the tokens of its messages"),
    "add_special_tokens": ((False,), "leave it out"),
}


def make_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=KeyedRoute, tags=["texts"])
    for add in (_add_vectors, _add_tokens, _add_models, _add_health):
        add(router)
    return router


def _add_vectors(router: APIRouter) -> None:
    @router.post("/v1/embeddings", responses=_document(EmbeddingReply))
    async def create_embeddings(body: EmbeddingRequest, request: Request) -> Response:
        """Embed texts."""
        await open_call(request, "embed", "embed")
        service = get_service(request)
        vectors = _get_vectors(service, body.model)
        texts = _read_inputs(service, body)
        if body.dimensions is not None and body.dimensions != vectors.width:
            message = (
                f"dimensions: vectors can't be cut; found {body.dimensions}; send {vectors.width}, or leave it out."
            )
            raise ServiceError(400, message, code="unsupported_value", param="dimensions")
        rows = await asyncio.to_thread(vectors.embed, texts)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode()
                if body.encoding_format == "base64"
                else [float(value) for value in row],
            }
            for index, row in enumerate(rows)
        ]
        reply = {"object": "list", "data": data, "model": body.model, "usage": await _count(service, texts)}
        return _reply(reply, make_headers(body))

    @router.post("/v1/rerank", responses=_document(RerankReply))
    async def rerank(body: RerankRequest, request: Request) -> Response:
        """Order documents by a query."""
        await open_call(request, "rerank", "rerank")
        service = get_service(request)
        vectors = _get_vectors(service, body.model)
        texts = [one if isinstance(one, str) else one.text for one in body.documents]
        scores = await asyncio.to_thread(vectors.score, body.query, texts)
        order = sorted(range(len(texts)), key=lambda index: (-float(scores[index]), index))[: body.top_n or len(texts)]
        results = [
            {"index": index, "relevance_score": round(float(scores[index]), 6)}
            | ({"document": {"text": texts[index]}} if body.return_documents else {})
            for index in order
        ]
        reply = {
            "id": get_request_id(request).replace("req_", "rerank_"),
            "model": body.model,
            "results": results,
            "usage": await _count(service, [body.query, *texts]),
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        }
        return _reply(reply, make_headers(body))


def _add_tokens(router: APIRouter) -> None:
    @router.post("/tokenize", responses=_document(TokenizeReply))
    async def tokenize(body: TokenizeRequest, request: Request) -> Response:
        """Encode a text."""
        await open_call(request, "chat", "tokenize")
        refuse_known_fields(body, REFUSED_TOKENIZE)
        service = get_service(request)
        if body.model is not None:
            read_model(service, body.model)
        ids = await asyncio.to_thread(service.inference.tokenize, body.prompt)
        texts = [service.inference.detokenize([id]) for id in ids] if body.return_token_strs else None
        seq_len = service.inference.description.seq_len
        reply = {"count": len(ids), "max_model_len": seq_len, "tokens": ids, "token_strs": texts}
        return _reply(reply, make_headers(body, known=REFUSED_TOKENIZE))

    @router.post("/detokenize", responses=_document(DetokenizeReply))
    async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
        """Decode tokens."""
        await open_call(request, "chat", "tokenize")
        service = get_service(request)
        if body.model is not None:
            read_model(service, body.model)
        n_vocab = service.inference.description.vocab_size
        if wrong := [id for id in body.tokens if id >= n_vocab]:
            message = f"tokens: has no such token; found {wrong[0]}; use ids below {n_vocab}."
            raise ServiceError(400, message, code="invalid_value", param="tokens")
        return _reply({"prompt": service.inference.detokenize(body.tokens)}, make_headers(body))


def _add_models(router: APIRouter) -> None:
    @router.get("/v1/models", responses=_document(ModelsReply, 401, 403, 429, 500, 503))
    async def list_all_models(request: Request) -> Response:
        """List the assistant, its profiles, and the model itself."""
        await get_caller(request)
        service = get_service(request)
        names = _list_names(service)
        return _reply({"object": "list", "data": [_describe_model(service, name) for name in names]})

    @router.get("/v1/models/{model:path}", responses=_document(ModelReply, 401, 403, 404, 429, 500, 503))
    async def get_model(model: str, request: Request) -> Response:
        """Return one model."""
        await get_caller(request)
        service = get_service(request)
        profile, is_direct = read_model(service, model)
        return _reply(_describe_model(service, DIRECT if is_direct else profile))


def _add_health(router: APIRouter) -> None:
    @router.get("/health", response_model=HealthReply, responses=_document(HealthReply, 500))
    async def get_health() -> Response:
        """Return that the process answers."""
        return _reply({"status": "ok"})

    @router.get("/ready", responses=_document(ReadyReply, 500) | {503: {"model": ReadyReply}})
    async def get_readiness(request: Request) -> Response:
        """Return whether requests are taken."""
        service = get_service(request)
        check = cast("Callable[[], dict[str, str]]", service.extras.get("readiness", dict))
        problems = check()
        if service.answering.is_draining:
            problems = {**problems, "service": "it is shutting down"}
        notices = cast("Callable[[], dict[str, str]]", service.extras.get("notices", dict))()
        body = dump({"status": "not_ready" if problems else "ready", "problems": problems, "notices": notices})
        return Response(body, 503 if problems else 200, media_type="application/json")

    @router.get("/version", responses=_document(VersionReply, 401, 403, 429, 500, 503))
    async def get_version(request: Request) -> Response:
        """Return what is served."""
        await get_caller(request)
        model = get_service(request).inference.description
        return _reply({**asdict(model), "lineage": dict(model.lineage), "fingerprint": make_fingerprint(model)})


def list_models(service: Service) -> list[str]:
    """Return the ids of all models of a service."""
    name = service.settings.name
    return [f"{name}/{rest}" if rest else name for rest in _list_names(service)]


def _list_names(service: Service) -> list[str]:
    return ["", *service.assistants.list_profiles(), DIRECT]


def _document(reply: type, *statuses: int) -> dict[int | str, dict[str, Any]]:
    errors = {status: ERRORS[status] for status in statuses or ERRORS}
    return {**errors, 200: {"model": reply}}


def _reply(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(dump(body), headers=headers, media_type="application/json")


def _get_vectors(service: Service, model: str) -> TextVectors:
    if model != f"{service.settings.name}/{EMBED}":
        read_model(service, model)
    vectors = cast("TextVectors | None", service.extras.get("vectors"))
    if vectors is None:
        message = "model: has no embedder; found a model without the folder embed; serve a champion that has one."
        raise ServiceError(400, message, code="unsupported_model", param="model")
    return vectors


def _read_inputs(service: Service, body: EmbeddingRequest) -> list[str]:
    given: Any = body.input
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        return [detokenize_exactly(service, given, "input")]
    return [
        one if isinstance(one, str) else detokenize_exactly(service, one, f"input[{index}]")
        for index, one in enumerate(given)
    ]


async def _count(service: Service, texts: list[str]) -> dict[str, int]:
    n = await asyncio.to_thread(lambda: sum(service.inference.count_tokens(text) for text in texts))
    return {"prompt_tokens": n, "total_tokens": n}


def _describe_model(service: Service, name: str) -> dict[str, Any]:
    model, profile = service.inference.description, None
    if name not in ("", DIRECT):
        profile = service.assistants.load_profile(name)
    return {
        "id": f"{service.settings.name}/{name}" if name else service.settings.name,
        "object": "model",
        "created": CREATED,
        "owned_by": "minigpt",
        "max_model_len": model.seq_len,
        "minigpt": _describe_profile(profile) if profile is not None else None,
    }


def _describe_profile(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "greeting": profile.render(profile.greeting),
        "examples": list(profile.examples),
        "grounding": profile.grounding,
        "documentation": profile.documentation,
        "collections": list(profile.collections),
        "tools": list(profile.tools),
    }
