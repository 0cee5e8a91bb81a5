"""Streamed completions at 1, 16 and 64 clients: the whole service against llama.cpp's server with the exported model.

Both have the same weights in fp32 and all cores, and are measured in turn on the same prompts; the best of the rounds counts. On a
machine that does other work too, times say little (llama.cpp's threads wait for each other by spinning, so give it one:
`--peer-threads 1`), and processor time per token says more. llama.cpp is no package: give its server by --llama-server.
"""

from __future__ import annotations

import pydoc_data.topics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import ROOT, Result, Row
from benchmarks.serving.running_servers import Load, RunningServer, run_llama_server, run_service, send_load
from model.export.gguf import export_gguf
from model.network.model_files import read_config
from pipeline.frame.errors import UserError

N_CHARS = 160  # of a prompt: about 60 tokens


def run(
    *,
    llama_server: Path | None = None,
    model: Path | None = None,
    clients: tuple[int, ...] = (1, 16, 64),
    max_tokens: int = 128,
    prompts_per_client: int = 3,
    peer_threads: int = 2,
    rounds: int = 3,
) -> Result:
    """Return tokens per second at the first number of clients above one, and a row for each number."""
    if llama_server is None or not llama_server.is_file():
        raise UserError(
            "http_throughput: llama.cpp's server is needed",
            f"found {llama_server}",
            "build it, pass --llama-server PATH",
        )
    folder = model or ROOT / "var" / "champion" / "model"
    config, _ = read_config(folder)
    with tempfile.TemporaryDirectory() as name:
        export_gguf(folder, Path(name) / "model.gguf", "f32")
        slots = max(clients)
        with (
            run_service(folder, Path(name) / "state", "--slots", str(slots)) as ours,
            run_llama_server(
                llama_server, Path(name) / "model.gguf", n_slots=slots, seq_len=config.seq_len, n_threads=peer_threads
            ) as peer,
        ):
            rows = [_compare(ours, peer, n, n * prompts_per_client, max_tokens, rounds) for n in clients]
    head = next((row for row in rows if row["clients"] != 1), rows[0])
    speeds = float(head["tokens/s"] or 0), float(head["llama.cpp's"] or 0)
    return Result(f"{head['clients']} clients", "tokens/s", *speeds, "llama.cpp's server", details=rows)


def _compare(
    ours: RunningServer, peer: RunningServer, n_clients: int, n_prompts: int, max_tokens: int, rounds: int
) -> Row:
    loads: Mapping[str, list[Load]] = {"ours": [], "peer": []}
    for number in range(rounds + 1):
        prompts = make_prompts(max(n_prompts, 8), number)  # new ones, because both keep what they have computed
        for name, server in (("ours", ours), ("peer", peer)):
            loads[name].append(send_load(server, prompts, n_clients, max_tokens))
    best = {name: max(each[1:], key=lambda load: load.tokens_per_second) for name, each in loads.items()}
    first = {name: min(each[1:], key=lambda load: load.get_first_ms(0.5)) for name, each in loads.items()}
    cpu = {name: min(load.cpu_ms_per_token for load in each[1:]) for name, each in loads.items()}
    return {
        "clients": n_clients,
        "tokens/s": best["ours"].tokens_per_second,
        "llama.cpp's": best["peer"].tokens_per_second,
        "ratio": best["ours"].tokens_per_second / best["peer"].tokens_per_second,
        "CPU-ms/token": cpu["ours"],
        "its CPU-ms/token": cpu["peer"],
        "first p50 ms": first["ours"].get_first_ms(0.5),
        "its first p50 ms": first["peer"].get_first_ms(0.5),
        "first p95 ms": first["ours"].get_first_ms(0.95),
        "its first p95 ms": first["peer"].get_first_ms(0.95),
    }


def make_prompts(n: int, seed: int) -> Sequence[str]:
    """Return different beginnings of texts about Python."""
    texts = [" ".join(text.split()) for text in pydoc_data.topics.topics.values() if len(text) > 2_000]
    chosen: list[str] = []
    for number in range(n):
        text, start = texts[(number * 7 + seed * 13) % len(texts)], (number // len(texts) + seed) * 40
        chosen.append(text[start : start + N_CHARS])
    return chosen
