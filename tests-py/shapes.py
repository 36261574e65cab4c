"""Shapes of the files in deploy/: which keys there are and what their values are. A key that is not in the shape is a slip of the pen.

They hold what the files use today, not all that Compose and Kubernetes know: whoever uses another key adds it here, from their reference.
"""

import itertools

ANY = object()
TEXT, NUMBER, TRUTH = str, int, bool
TEXTS = [str]


def misfits(value, shape, where: str) -> list[str]:
    """Where a value does not have its shape: a type, a list of one shape, a dictionary of shapes, or ANY."""
    if shape is ANY:
        return []
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [misfit for position, each in enumerate(value) for misfit in misfits(each, shape[0], f"{where}[{position}]")]
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f"{where} is no mapping"]
        unknown = [f"{where}.{key} is not known" for key in value if key not in shape and "*" not in shape]
        known = [misfits(each, shape.get(key, shape.get("*")), f"{where}.{key}") for key, each in value.items() if key in shape or "*" in shape]
        return unknown + list(itertools.chain.from_iterable(known))
    # A truth is a number to Python, not to those who read these files.
    fits = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    return [] if fits else [f"{where} is {value!r}, no {shape.__name__}"]


HEALTH_CHECK = {"test": TEXTS, "interval": TEXT, "timeout": TEXT, "start_period": TEXT, "retries": NUMBER}
SERVICE = {
    "image": TEXT,
    "build": {"context": TEXT, "dockerfile": TEXT},
    "command": TEXTS,
    "hostname": TEXT,
    "environment": {"*": TEXT},
    "ports": TEXTS,
    "volumes": TEXTS,
    "secrets": TEXTS,
    "depends_on": {"*": {"condition": TEXT}},
    "healthcheck": HEALTH_CHECK,
    "restart": TEXT,
    "stop_grace_period": TEXT,
    "read_only": TRUTH,
    "cap_drop": TEXTS,
    "security_opt": TEXTS,
    "ulimits": {"nofile": NUMBER},
}
COMPOSE = {
    "name": TEXT,
    "x-node": SERVICE,
    "x-secrets": {"*": TEXT},
    "services": {"*": SERVICE},
    "secrets": {"*": {"environment": TEXT}},
    "volumes": {"*": ANY},
}

LABELS = {"*": TEXT}
METADATA = {"name": TEXT, "labels": LABELS}
SELECTOR = {"matchLabels": LABELS}
PROBE = {
    "httpGet": {"path": TEXT, "port": TEXT},
    "exec": {"command": TEXTS},
    "tcpSocket": {"port": TEXT},
    "periodSeconds": NUMBER,
    "timeoutSeconds": NUMBER,
    "failureThreshold": NUMBER,
}
CONTAINER = {
    "name": TEXT,
    "image": TEXT,
    "imagePullPolicy": TEXT,
    "args": TEXTS,
    "env": [{"name": TEXT, "value": TEXT, "valueFrom": {"fieldRef": {"fieldPath": TEXT}, "secretKeyRef": {"name": TEXT, "key": TEXT}}}],
    "ports": [{"name": TEXT, "containerPort": NUMBER}],
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "resources": {"requests": LABELS, "limits": LABELS},
    "securityContext": {"allowPrivilegeEscalation": TRUTH, "readOnlyRootFilesystem": TRUTH, "capabilities": {"drop": TEXTS}},
    "volumeMounts": [{"name": TEXT, "mountPath": TEXT}],
}
POD = {
    "enableServiceLinks": TRUTH,
    "automountServiceAccountToken": TRUTH,
    "terminationGracePeriodSeconds": NUMBER,
    "securityContext": {
        "runAsNonRoot": TRUTH,
        "runAsUser": NUMBER,
        "runAsGroup": NUMBER,
        "fsGroup": NUMBER,
        "fsGroupChangePolicy": TEXT,
        "seccompProfile": {"type": TEXT},
    },
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": TEXT, "labelSelector": SELECTOR}]}},
    "topologySpreadConstraints": [{"maxSkew": NUMBER, "topologyKey": TEXT, "whenUnsatisfiable": TEXT, "labelSelector": SELECTOR}],
    "containers": [CONTAINER],
}
CLAIM = {"metadata": METADATA, "spec": {"accessModes": TEXTS, "resources": {"requests": LABELS}}}
SPECS = {
    ("v1", "Service"): {
        "clusterIP": TEXT,
        "publishNotReadyAddresses": TRUTH,
        "selector": LABELS,
        "ports": [{"name": TEXT, "port": NUMBER, "targetPort": TEXT}],
    },
    ("policy/v1", "PodDisruptionBudget"): {"maxUnavailable": NUMBER, "selector": SELECTOR},
    ("apps/v1", "StatefulSet"): {
        "serviceName": TEXT,
        "replicas": NUMBER,
        "podManagementPolicy": TEXT,
        "updateStrategy": {"type": TEXT},
        "minReadySeconds": NUMBER,
        "selector": SELECTOR,
        "template": {"metadata": {"labels": LABELS}, "spec": POD},
        "volumeClaimTemplates": [CLAIM],
    },
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {
        "jobLabel": TEXT,
        "selector": SELECTOR,
        "endpoints": [
            {"port": TEXT, "path": TEXT, "interval": TEXT, "authorization": {"type": TEXT, "credentials": {"name": TEXT, "key": TEXT}}}
        ],
    },
}
