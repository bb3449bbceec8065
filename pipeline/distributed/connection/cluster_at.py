"""The cluster at an address that somebody gave: does Ray answer there, does it take us, is it of our version, is this machine one
of its nodes?

Asked by a call of its own, which has a deadline. Ray's own way of joining tries for minutes.
"""

import json
import os
import platform
from typing import Any

import grpc
import ray
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private import services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray.core.generated import gcs_pb2, gcs_service_pb2, gcs_service_pb2_grpc, node_manager_pb2, node_manager_pb2_grpc
from ray.exceptions import AuthenticationError

from pipeline.errors import InputError

AUTO = "auto"
PATIENCE = 4.0
"""Seconds that an answer may take."""
WHERE = "--address or RAY_ADDRESS"
PYTHON_MATCH = "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL"


def reachable(target: str) -> str:
    """`host:port` of the cluster that `target` means: the same, or "auto": the one that `ray start` made this machine part of.
    Raises InputError where nothing there can be joined from here."""
    address = _address(target)
    if target == AUTO:
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)   # as Ray does for one of this machine, and no other
    channel = init_grpc_channel(address)
    try:
        _require_same_versions(_metadata(channel, target), target)
        for node in _nodes_here(channel, target):
            _require_answer(node, target)
    except AuthenticationError as error:   # it is to be guarded, and there is no token here
        raise InputError(_guarded(target)) from error
    except grpc.RpcError as error:
        raise InputError(_refusal(error, target)) from error
    finally:
        channel.close()
    return address


def _address(target: str) -> str:
    host, _, port = target.rpartition(":")
    if target != AUTO and ("://" in target or not host or not port.isdecimal()):
        raise InputError(
            f"{WHERE}: {target!r} is not of the form HOST:PORT, the address of a cluster's head (port 6379 by default); "
            "\"auto\" is the cluster that this machine is part of")
    try:
        return str(services.canonicalize_bootstrap_address(target))
    except (OSError, ValueError) as error:   # no cluster here; no such host
        raise InputError(f"no Ray cluster answers at {target!r} ({WHERE}): {error}") from error


def _metadata(channel: Any, target: str) -> dict[str, str]:
    """The versions that the cluster was started with."""
    request = gcs_service_pb2.InternalKVGetRequest(  # type: ignore[attr-defined]
        namespace=KV_NAMESPACE_CLUSTER, key=CLUSTER_METADATA_KEY)
    reply = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel).InternalKVGet(request, timeout=PATIENCE)
    try:
        return dict(json.loads(reply.value))
    except ValueError as error:
        raise InputError(f"what answers at {target!r} ({WHERE}) is no Ray cluster that has started") from error


def _nodes_here(channel: Any, target: str) -> list[Any]:
    """The living nodes of the cluster that are on this machine; the head alone where it is one, as Ray chooses. Raises InputError
    where none is."""
    request = gcs_service_pb2.GetAllNodeInfoRequest(  # type: ignore[attr-defined]
        state_filter=gcs_pb2.GcsNodeInfo.ALIVE)  # type: ignore[attr-defined]
    reply = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel).GetAllNodeInfo(request, timeout=PATIENCE)
    own = services.find_node_ids()
    here = [node for node in reply.node_info_list if node.node_id.hex() in own]
    if not here:
        raise InputError(
            f"this machine is no node of the Ray cluster at {target!r} ({WHERE}): start the run on one of its machines, "
            "for instance by `ray job submit -- shardmill run …`")
    return [node for node in here if node.is_head_node] or here


def _require_answer(node: Any, target: str) -> None:
    """A raylet that is stopped would hold this process in C++ for half a minute and then end it."""
    channel = init_grpc_channel(f"{node.node_manager_address}:{node.node_manager_port}")
    request = node_manager_pb2.GetSystemConfigRequest()  # type: ignore[attr-defined]
    try:
        node_manager_pb2_grpc.NodeManagerServiceStub(channel).GetSystemConfig(request, timeout=PATIENCE)
    except grpc.RpcError as error:
        raise InputError(
            f"the Ray cluster at {target!r} ({WHERE}) answers, but its process on this machine (raylet) does not: "
            "end it and start it again by `ray start`") from error
    finally:
        channel.close()


def _require_same_versions(has: dict[str, str], target: str) -> None:
    ours = {"ray_version": ray.__version__, "python_version": platform.python_version()}
    for key, name in (("ray_version", "Ray"), ("python_version", "Python")):
        if has.get(key) != ours[key] and not (name == "Python" and _minor_will_do(str(has.get(key)), ours[key])):
            raise InputError(
                f"the Ray cluster at {target!r} ({WHERE}) runs {name} {has.get(key)}, and shardmill here {ours[key]}: "
                "install the same on every machine of the cluster")


def _minor_will_do(version: str, other: str) -> bool:
    """As Ray has it: the user may say that another patch of Python is good enough."""
    return os.environ.get(PYTHON_MATCH) == "minor" and version.rpartition(".")[0] == other.rpartition(".")[0]


def _guarded(target: str) -> str:
    return (f"the Ray cluster at {target!r} ({WHERE}) asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to the one that it was started with")


def _refusal(error: Any, target: str) -> str:
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return _guarded(target)
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no Ray cluster answers at {target!r} ({WHERE}): nothing came within {PATIENCE:g} s"
    return f"no Ray cluster answers at {target!r} ({WHERE}): {(error.details() or error.code().name).splitlines()[0]}"
