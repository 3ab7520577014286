"""An Application Load Balancer with the function as its target, with and without lambda.multi_value_headers.enabled.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
"""

from __future__ import annotations

from adapter.local.fronts import proxy_result
from adapter.local.fronts.buffered import Buffered
from adapter.local.fronts.exchange import BuildEvent, Refusal, Refusals, Service
from adapter.local.fronts.payload_alb import alb_event, alb_multi_value_event
from adapter.local.fronts.proxy_result import ResultForm
from adapter.local.invocation import MAX_PAYLOAD

# Of a request's body, and of the function's result, a JSON text.
MAX_BODY = 1024 * 1024


def page(status: int, reason: str) -> Refusal:
    title = f"{status} {reason}"
    lines = ("<html>", f"<head><title>{title}</title></head>", "<body>", f"<center><h1>{title}</h1></center>")
    return Refusal(status, "\r\n".join([*lines, "</body>", "</html>", ""]).encode(), "text/html")


# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
BAD_GATEWAY = page(502, "Bad Gateway")
REFUSALS = Refusals(
    too_large=page(413, "Request Entity Too Large"),
    busy=BAD_GATEWAY,  # ASSUMPTION: no source says what a throttled function comes to.
    failed=BAD_GATEWAY,
    malformed=BAD_GATEWAY,
)


def load_balancer(title: str, event: BuildEvent, form: ResultForm) -> Service:
    """It waits for the function as long as that takes."""
    return Service(
        title,
        event,
        Buffered(form, max_result=MAX_BODY),
        REFUSALS,
        max_body=MAX_BODY,
        max_stream=MAX_PAYLOAD,
    )


ALB = load_balancer("Application Load Balancer", alb_event, proxy_result.ALB)
ALB_MULTI_VALUE = load_balancer(
    "Application Load Balancer (multi-value headers)", alb_multi_value_event, proxy_result.ALB_MULTI_VALUE
)
