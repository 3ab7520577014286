"""The cost record in CloudWatch's Embedded Metric Format, by Powertools, where that is installed.

https://docs.powertools.aws.dev/lambda/python/latest/core/metrics/
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def emit(fields: Mapping[str, float], request_id: str) -> None:
    """Write the fields as metrics, where Powertools is there and ``POWERTOOLS_METRICS_NAMESPACE`` is set.

    Those that end in ``_ms`` are milliseconds, the others counts. The service is Powertools'
    ``POWERTOOLS_SERVICE_NAME``.
    """
    if not os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or not importlib.util.find_spec("aws_lambda_powertools"):
        return
    from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

    metrics = EphemeralMetrics()  # of its own: the application's, which it may not have flushed yet, stay as they are
    for name, value in fields.items():
        metrics.add_metric(name, MetricUnit.Milliseconds if name.endswith("_ms") else MetricUnit.Count, value)
    metrics.add_metadata("function_request_id", request_id)
    metrics.flush_metrics()
