"""Embeddings, rerank, tokens, models: values agree with each other and with the embedder."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np

from service.api.text_routes import list_models
from tests.service.api.scripted_service import SEQ_LEN, RunningServer, make_service, make_vectors, run_server


def post(server: RunningServer, path: str, **body: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=body)


def test_embeddings_are_the_embedders_in_both_forms(server: RunningServer) -> None:
    texts = ["matrix", "river bank", "unknown", "Ünïcödé 😀"]
    expected = make_vectors().embed(texts)
    numbers = post(server, "/v1/embeddings", model="minigpt", input=texts).json()
    coded = post(server, "/v1/embeddings", model="minigpt/embed", input=texts, encoding_format="base64").json()
    for row, one, other in zip(expected, numbers["data"], coded["data"], strict=True):
        assert np.array_equal(np.array(one["embedding"], np.float32), row)
        assert np.array_equal(np.frombuffer(base64.b64decode(other["embedding"]), "<f4"), row)
    assert numbers["usage"]["total_tokens"] == sum(len(text.encode()) for text in texts)
    tokens = post(server, "/v1/embeddings", model="minigpt", input=[list(b"matrix")]).json()
    assert tokens["data"][0]["embedding"] == numbers["data"][0]["embedding"]


def test_dimensions_are_the_embedders_or_refused(server: RunningServer) -> None:
    width = make_vectors().width
    assert post(server, "/v1/embeddings", model="minigpt", input="matrix", dimensions=width).status_code == 200
    refused = post(server, "/v1/embeddings", model="minigpt", input="matrix", dimensions=width - 1)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "dimensions")


def test_a_model_without_an_embedder() -> None:
    with run_server(make_service(vectors=None)) as own:
        for path, body in (("/v1/embeddings", {"input": "a"}), ("/v1/rerank", {"query": "a", "documents": ["b"]})):
            assert post(own, path, model="minigpt", **body).status_code == 400


def test_rerank_orders_by_score(server: RunningServer) -> None:
    documents = ["a car", {"text": "river bank"}, "the matrix", "bank"]
    reply = post(
        server, "/v1/rerank", model="minigpt", query="river", documents=documents, return_documents=True
    ).json()
    scores = [row["relevance_score"] for row in reply["results"]]
    assert scores == sorted(scores, reverse=True)
    assert {row["index"] for row in reply["results"][:2]} == {1, 3}
    assert reply["results"][0]["document"] == {"text": "river bank"}
    assert (
        len(post(server, "/v1/rerank", model="minigpt", query="x", documents=["a", "b"], top_n=1).json()["results"])
        == 1
    )


def test_tokens_there_and_back(server: RunningServer) -> None:
    text = "naïve 😀 <|end|>"
    reply = post(server, "/tokenize", prompt=text, return_token_strs=True).json()
    assert reply["count"] == len(reply["tokens"]) == len(reply["token_strs"])
    assert reply["max_model_len"] == SEQ_LEN
    assert post(server, "/detokenize", tokens=reply["tokens"]).json() == {"prompt": text}
    assert post(server, "/detokenize", tokens=[10_000]).status_code == 400
    assert post(server, "/tokenize", messages=[], prompt="a").status_code == 400


def test_models_are_the_profiles_and_the_model_itself(server: RunningServer) -> None:
    rows = httpx.get(server.url + "/v1/models").json()["data"]
    assert [row["id"] for row in rows] == list_models(server.service)
    assert {"minigpt", "minigpt/tutor", "minigpt/direct"} <= {row["id"] for row in rows}
    for row in rows:
        assert httpx.get(f"{server.url}/v1/models/{row['id']}").json() == row
    tutor = next(row for row in rows if row["id"] == "minigpt/tutor")["minigpt"]
    assert {"name", "greeting", "examples", "grounding", "documentation", "collections", "tools"} == set(tutor)


def test_the_description_names_the_models_and_the_errors(server: RunningServer) -> None:
    described = httpx.get(server.url + "/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert schemas["ChatRequest"]["properties"]["model"]["enum"] == list_models(server.service)
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"], path
            assert {"400", "500"} <= operation["responses"].keys(), path
