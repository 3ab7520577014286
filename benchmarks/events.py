"""The events that functions are invoked with, and the same requests as HTTP/1.1."""

HOST = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate, br, zstd",
    "accept-language": "en",
    "host": HOST,
    "user-agent": AGENT,
    "x-amzn-tls-version": "TLSv1.3",
    "x-amzn-trace-id": "Root=1-5bdb40ca-556d8b0c50dc66f0511bf520",
    "x-forwarded-for": "203.0.113.7",
    "x-forwarded-port": "443",
    "x-forwarded-proto": "https",
}


def event(path: str, query: str = "") -> dict[str, object]:
    """A function URL's event, of the size that a browser's request makes."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": HEADERS,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abcdefghijklmnopqrstuvwxyz012345",
            "domainName": HOST,
            "domainPrefix": "abcdefghijklmnopqrstuvwxyz012345",
            "http": {
                **{"method": "GET", "path": path, "protocol": "HTTP/1.1"},
                **{"sourceIp": "203.0.113.7", "userAgent": AGENT},
            },
            "requestId": "9a6a2a0e-0000-4000-8000-000000000000",
            "routeKey": "$default",
            "stage": "$default",
            "time": "23/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1795435200000,
        },
        "isBase64Encoded": False,
    }


def request(path: str, query: str = "", host: str = HOST) -> bytes:
    """The HTTP/1.1 request that a function URL would have made this event of."""
    target = f"{path}?{query}" if query else path
    fields = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, "host": host}.items())
    return f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode()


JSON = event("/items/7", "q=x")
IN_A_THREAD = event("/threads/7", "q=x")
WITH_BACKGROUND = event("/background/7", "q=x")
JSON_REQUEST = request("/items/7", "q=x")
