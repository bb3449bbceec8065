"""The service on a Ray cluster: replicas behind Ray Serve's proxy, as many as the requests want."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.errors import InputError
from pipeline.serve.settings import Settings

NAME = "shardmill"
ONGOING = 16
"""Requests of a replica from which on another one is started."""


def serve_replicas(  # noqa: PLR0913
    roots: Sequence[str], host: str, port: int, settings: Settings, replicas: tuple[int, int] = (1, 4), cpus: float = 1.0
) -> str:
    """Starts the service on the cluster that RAY_ADDRESS names, else on one of this machine's, and returns its URL; it runs until
    `serve.shutdown` or the cluster's end. `replicas`: least and most; each opens the roots and holds the model, and takes `cpus`
    CPUs. Every node must reach the roots. A new publication is taken over by each replica for itself, within `watch_seconds`.

    Raises InputError where Ray Serve is not installed."""
    try:
        from ray import serve
    except ImportError:
        raise InputError('Ray Serve is not installed: pip install "shardmill[serve]"') from None
    elsewhere = replace(settings, local_names_alone=False)   # the proxy's address is the cluster's

    def build() -> object:
        from pipeline.serve.application import application  # on the replica

        return application(roots, elsewhere)

    service = serve.deployment(
        name=NAME, ray_actor_options={"num_cpus": cpus}, max_ongoing_requests=settings.requests_at_once,
        autoscaling_config={"min_replicas": replicas[0], "max_replicas": replicas[1], "target_ongoing_requests": ONGOING},
        graceful_shutdown_timeout_s=30,
    )(serve.ingress(build)())
    serve.start(http_options={"host": host, "port": port})
    serve.run(service.bind(), name=NAME, route_prefix="/")
    return f"http://{host}:{port}"


def shut_down() -> None:
    """Ends the replicas, once their requests have ended."""
    from ray import serve

    serve.shutdown()
