"""A manifest for Kubernetes: pods that share a place, and need no scheduler but its claims."""

import json
import math
from typing import Any


def manifest(
    name: str, grid: str, place: str, *, image: str, volume: str | None, workers: int, cpus: int, gpus: float
) -> str:
    """An indexed Job whose pods all work on one grid, each one run at a time.

    A pod that is evicted is started again. Its run goes on from its checkpoint where the place is on a volume; with a
    place in an object store the checkpoint is lost with the pod, and the run begins anew. A pod that ends because runs
    failed, or because the grid has a fault, is not started again.

    Args:
        name: of the grid.
        grid: path of the grid file in the image.
        place: path of the place in the pods, where the volume is mounted.
        image: container image with this library and its extra `batch`.
        volume: name of a persistent volume claim that many pods can write; None for a place in an object store, to
            which the pods' service account must have access.
        workers: pods at once.
        cpus: processors of one run.
        gpus: GPUs of one run, rounded up to whole ones.

    Returns:
        JSON for `kubectl apply -f -`.
    """
    resources: dict[str, Any] = {"cpu": str(cpus)}
    if gpus:
        resources["nvidia.com/gpu"] = str(math.ceil(gpus))
    container: dict[str, Any] = {
        "name": "runs",
        "image": image,
        "command": ["lt-lib", "batch", grid, "--out", place, "--scheduler", "sequential", "--join"],
        "resources": {"requests": resources, "limits": resources},
    }
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if volume:
        container["volumeMounts"] = [{"name": "place", "mountPath": place}]
        pod["volumes"] = [{"name": "place", "persistentVolumeClaim": {"claimName": volume}}]
    failing = {"action": "FailIndex", "onExitCodes": {"containerName": "runs", "operator": "In", "values": [1, 2]}}
    evicted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    content = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"lt-{name}"},
        "spec": {
            "completionMode": "Indexed",
            "completions": workers,
            "parallelism": workers,
            "backoffLimitPerIndex": 2,
            "podFailurePolicy": {"rules": [evicted, failing]},
            "template": {"spec": pod},
        },
    }
    return json.dumps(content, indent=2) + "\n"
