"""Where spans go: an OTLP collector, an MLflow server. Both speak OTLP over HTTP; both are optional (extra `cluster`).

Exports are batched in a thread of their own. A collector that does not answer costs no answer anything: spans are dropped, and
the SDK logs that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

EXPERIMENT = "minigpt-service"  # of the traces in MLflow
TIMEOUT_SECONDS = 5.0
TRACES_PATH = "/v1/traces"


def make_otlp_processor(address: str, headers: dict[str, str] | None = None) -> SpanProcessor:
    """Return a processor that sends spans to `address`/v1/traces. Raises: ValueError if the extra is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ValueError(
            "settings.otlp needs a package; found no opentelemetry-exporter-otlp-proto-http; install the extra cluster."
        ) from error
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    endpoint = address.rstrip("/").removesuffix(TRACES_PATH) + TRACES_PATH
    return BatchSpanProcessor(OTLPSpanExporter(endpoint, headers=headers, timeout=TIMEOUT_SECONDS))


def make_mlflow_processor(address: str) -> SpanProcessor:
    """Return a processor that sends spans to an MLflow server, into the experiment EXPERIMENT, which is made if there is none.

    Raises: ValueError for a server that does not answer, or not as MLflow does.
    """
    return make_otlp_processor(address, {"x-mlflow-experiment-id": find_experiment(address)})


def find_experiment(address: str) -> str:
    """Return the id of the experiment of the traces. Raises: ValueError."""
    base = f"{address.rstrip('/')}/api/2.0/mlflow/experiments"
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            answer = client.get(f"{base}/get-by-name", params={"experiment_name": EXPERIMENT})
            if answer.status_code == 404:
                answer = client.post(f"{base}/create", json={"name": EXPERIMENT})
            answer.raise_for_status()
            content: dict[str, Any] = answer.json()
            return str(
                content["experiment_id"] if "experiment_id" in content else content["experiment"]["experiment_id"]
            )
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        message = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(
            f"settings.mlflow: {address} is no MLflow server; found {message}; correct the address."
        ) from error
