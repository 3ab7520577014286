"""The events of every trigger, field by field as AWS documents them."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote

# https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads


def function_url(
    path: str = "/",
    *,
    method: str = "GET",
    query: str = "",
    headers: dict[str, str] | None = None,
    cookies: list[str] | None = None,
    body: str | bytes | None = None,
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "host": "abc.lambda-url.us-east-1.on.aws",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            "user-agent": "test",
            **(headers or {}),
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": "abc.lambda-url.us-east-1.on.aws",
            "domainPrefix": "abc",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "test",
            },
            "requestId": "9a6a2a0e-0000-4000-8000-000000000000",
            "routeKey": "$default",
            "stage": "$default",
            "time": "23/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1795435200000,
        },
        "isBase64Encoded": isinstance(body, bytes),
    }
    if cookies:
        event["cookies"] = cookies
    if body:
        event["body"] = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    return event


@dataclass(frozen=True)
class Sent:
    """What a client sends: path and query percent-encoded, headers in lower case and in order, without the cookies."""

    path: str = "/"
    method: str = "GET"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    cookies: tuple[str, ...] = ()
    body: bytes = b""
    host: str = ""
    stage: str = ""
    mapping: str = ""
    client: str = "203.0.113.7"

    def pairs(self, host: str = "") -> list[tuple[str, str]]:
        """The headers with the cookies, and with those that a front end adds; at its own host, if at no other."""
        return [
            ("host", self.host or host),
            ("x-forwarded-for", self.client),
            ("x-forwarded-port", "443"),
            ("x-forwarded-proto", "https"),
            *self.headers,
            *([("cookie", "; ".join(self.cookies))] if self.cookies else []),
        ]

    @property
    def text(self) -> tuple[str | None, bool]:
        """The body as the event has it, and whether that is base64."""
        if not self.body:
            return None, False
        if dict(self.headers).get("content-type", "").startswith(("application/json", "text/")):
            return self.body.decode(), False
        return base64.b64encode(self.body).decode(), True


def lists(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def joined(pairs: list[tuple[str, str]], separator: str) -> dict[str, str]:
    return {name: separator.join(values) for name, values in lists(pairs).items()}


def decoded(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def undecoded(query: str) -> list[tuple[str, str]]:
    return [(part.partition("=")[0], part.partition("=")[2]) for part in query.split("&") if part]


EXECUTE_API = "abc123.execute-api.us-east-1.amazonaws.com"


def function_url_event(sent: Sent) -> dict[str, Any]:
    body, encoded = sent.text
    sent_headers = {name: value for name, value in joined(sent.pairs(), ",").items() if name not in ("cookie", "host")}
    event = function_url(
        sent.path,
        method=sent.method,
        query=sent.query,
        headers={**({"host": sent.host} if sent.host else {}), **sent_headers},
        cookies=list(sent.cookies),
    )
    return {**event, "body": body, "isBase64Encoded": encoded}


# https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html


def http_api_event(sent: Sent) -> dict[str, Any]:
    """The path decoded, with the stage in it; without the mapping of a custom domain."""
    body, encoded = sent.text
    domain = sent.host or EXECUTE_API
    path = ("/" + sent.stage if sent.stage else "") + unquote(sent.path)
    headers = joined([header for header in sent.pairs(domain) if header[0] != "cookie"], ",")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": sent.query,
        "cookies": list(sent.cookies),
        "headers": headers,
        "queryStringParameters": joined(decoded(sent.query), ","),
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc123",
            "authentication": None,
            "authorizer": {"jwt": {"claims": {"claim1": "value1"}, "scopes": ["scope1"]}},
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": sent.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": sent.client,
                "userAgent": "agent",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": sent.stage or "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "body": body,
        "pathParameters": {"parameter1": "value1"},
        "isBase64Encoded": encoded,
        "stageVariables": {"stageVariable1": "value1"},
    }
    return {name: value for name, value in event.items() if value not in ([], {}, None)}


def event_1_0(sent: Sent, path: str, asked: str) -> dict[str, Any]:
    body, encoded = sent.text
    domain = sent.host or EXECUTE_API
    headers = sent.pairs(domain)
    parameters = decoded(sent.query)
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": sent.method,
        "headers": dict(headers),
        "multiValueHeaders": lists(headers),
        "queryStringParameters": dict(parameters) or None,
        "multiValueQueryStringParameters": lists(parameters) or None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc123",
            "authorizer": {"claims": None, "scopes": None},
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "extendedRequestId": "request-id",
            "httpMethod": sent.method,
            "identity": {
                "accessKey": None,
                "accountId": None,
                "caller": None,
                "cognitoAuthenticationProvider": None,
                "cognitoAuthenticationType": None,
                "cognitoIdentityId": None,
                "cognitoIdentityPoolId": None,
                "principalOrgId": None,
                "sourceIp": sent.client,
                "user": None,
                "userAgent": "user-agent",
                "userArn": None,
            },
            "path": asked,
            "protocol": "HTTP/1.1",
            "requestId": "id=",
            "requestTime": "04/Mar/2020:19:15:17 +0000",
            "requestTimeEpoch": 1583349317135,
            "resourceId": None,
            "resourcePath": "/{proxy+}",
            "stage": sent.stage or "$default",
        },
        "pathParameters": {"proxy": unquote(path.removeprefix("/"))},
        "stageVariables": None,
        "body": body,
        "isBase64Encoded": encoded,
    }


def http_api_1_0_event(sent: Sent) -> dict[str, Any]:
    """The path decoded, with the stage in it, or with the mapping of a custom domain."""
    path = sent.mapping + ("/" + sent.stage if sent.stage and not sent.host else "") + unquote(sent.path)
    return {"version": "1.0", **event_1_0(sent, path, path)}


# https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html


def rest_api_event(sent: Sent) -> dict[str, Any]:
    """The path as sent; the stage in the request context only; the mapping of a custom domain in both."""
    sent = sent if sent.stage else replace(sent, stage="prod")
    path = sent.mapping + sent.path
    return event_1_0(sent, path, path if sent.host else f"/{sent.stage}{path}")


# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html


def alb_event(sent: Sent, *, multi_value: bool = False) -> dict[str, Any]:
    body, encoded = sent.text
    headers = sent.pairs("lambda-846800462.us-east-2.elb.amazonaws.com")
    parameters = undecoded(sent.query)
    many: dict[str, Any] = {
        "multiValueQueryStringParameters": lists(parameters),
        "multiValueHeaders": lists(headers),
    }
    single: dict[str, Any] = {"queryStringParameters": dict(parameters), "headers": dict(headers)}
    return {
        "requestContext": {
            "elb": {
                "targetGroupArn": "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/lambda/49e9d65c45c6"
            }
        },
        "httpMethod": sent.method,
        "path": sent.path,
        **(many if multi_value else single),
        "body": body or "",
        "isBase64Encoded": encoded,
    }


def alb_multi_value_event(sent: Sent) -> dict[str, Any]:
    return alb_event(sent, multi_value=True)


# https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/lambda-event-structure.html


def viewer_request_event(sent: Sent) -> dict[str, Any]:
    """CloudFront has no X-Forwarded headers for a viewer request."""
    domain = "d111111abcdef8.cloudfront.net"
    headers = [header for header in sent.pairs(domain) if not header[0].startswith("x-forwarded-")]
    request: dict[str, Any] = {
        "clientIp": sent.client,
        "headers": {
            name: [{"key": name.title(), "value": value} for value in values] for name, values in lists(headers).items()
        },
        "method": sent.method,
        "querystring": sent.query,
        "uri": sent.path,
    }
    if sent.body:
        data = base64.b64encode(sent.body).decode()
        request["body"] = {"inputTruncated": False, "action": "read-only", "encoding": "base64", "data": data}
    config = {
        "distributionDomainName": domain,
        "distributionId": "EDFDVBD6EXAMPLE",
        "eventType": "viewer-request",
        "requestId": "4TyzHTaYWb1GX1qTfsHhEqV6HUDd_BzoBZnwfnvQc_1oF26ClkoUSEQ==",
    }
    return {"Records": [{"cf": {"config": config, "request": request}}]}


def origin_request_event(sent: Sent) -> dict[str, Any]:
    event = viewer_request_event(sent)
    cf = event["Records"][0]["cf"]
    cf["config"]["eventType"] = "origin-request"
    cf["request"]["headers"]["x-forwarded-for"] = [{"key": "X-Forwarded-For", "value": sent.client}]
    cf["request"]["headers"]["via"] = [{"key": "Via", "value": "2.0 2afae0d44e2540f47.cloudfront.net (CloudFront)"}]
    cf["request"]["origin"] = {
        "custom": {
            "customHeaders": {},
            "domainName": "example.org",
            "keepaliveTimeout": 5,
            "path": "",
            "port": 443,
            "protocol": "https",
            "readTimeout": 30,
            "sslProtocols": ["TLSv1", "TLSv1.1", "TLSv1.2"],
        }
    }
    return event


# https://docs.aws.amazon.com/vpc-lattice/latest/ug/lambda-functions.html


def lattice_pairs(sent: Sent) -> list[tuple[str, str]]:
    """Lattice adds X-Forwarded-For only."""
    host = "svc-0a40eebed65f8d69c.7d67968.vpc-lattice-svcs.us-east-2.on.aws"
    return [header for header in sent.pairs(host) if header[0] not in ("x-forwarded-port", "x-forwarded-proto")]


def lattice_v2_event(sent: Sent) -> dict[str, Any]:
    body, encoded = sent.text
    arn = "arn:aws:vpc-lattice:us-east-2:123456789012:"
    event: dict[str, Any] = {
        "version": "2.0",
        "path": sent.path,
        "method": sent.method,
        "headers": lists(lattice_pairs(sent)),
        "queryStringParameters": lists(undecoded(sent.query)),
        "requestContext": {
            "serviceNetworkArn": f"{arn}servicenetwork/sn-0bf3f2882e9cc805a",
            "serviceArn": f"{arn}service/svc-0a40eebed65f8d69c",
            "targetGroupArn": f"{arn}targetgroup/tg-6d0ecf831eec9f09",
            "identity": {
                "sourceVpcArn": "arn:aws:ec2:us-east-2:123456789012:vpc/vpc-0b8276c84697e7339",
                "type": "AWS_IAM",
                "principal": "arn:aws:iam::123456789012:assumed-role/my-role/my-session",
                "principalOrgID": "o-50dc6c495c0c9188",
                "sessionName": "i-0c7de02a688bde9f7",
            },
            "region": "us-east-2",
            "timeEpoch": "1690497599177430",
        },
    }
    if body is not None:
        event["body"] = body
        event["isBase64Encoded"] = encoded
    return event


def lattice_v1_event(sent: Sent) -> dict[str, Any]:
    body, encoded = sent.text
    return {
        "raw_path": sent.path,
        "method": sent.method,
        "headers": joined(lattice_pairs(sent), ", "),
        "query_string_parameters": dict(undecoded(sent.query)),
        "body": body,
        "is_base64_encoded": encoded,
    }


EVENTS: dict[str, Callable[[Sent], dict[str, Any]]] = {
    "function URL": function_url_event,
    "HTTP API 2.0": http_api_event,
    "HTTP API 1.0": http_api_1_0_event,
    "REST API": rest_api_event,
    "ALB": alb_event,
    "ALB multi-value": alb_multi_value_event,
    "viewer request": viewer_request_event,
    "origin request": origin_request_event,
    "Lattice V2": lattice_v2_event,
    "Lattice V1": lattice_v1_event,
}
