"""What the runtime takes over from awslambdaric, where a version has it in another way."""

from typing import Any

import awslambdaric.bootstrap
import pytest
from awslambdaric.lambda_context import LambdaContext

from adapter.bootstrap import Bootstrap
from adapter.exceptions import SeamError

HEADERS = {
    "lambda-runtime-invoked-function-arn": "arn:f",
    "lambda-runtime-aws-tenant-id": "tea",
}
IDENTITY = {
    "lambda-runtime-client-context": '{"custom": {"a": "1"}}',
    "lambda-runtime-cognito-identity": '{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}',
}


def seen(context: Any) -> dict[str, Any]:
    return {name: repr(value) for name, value in vars(context).items()}


@pytest.mark.parametrize(
    "headers", [{}, HEADERS, {**HEADERS, **IDENTITY}, {**HEADERS, **IDENTITY, "lambda-runtime-cognito-identity": ""}]
)
def test_the_context_is_that_of_awslambdaric(headers: dict[str, str]) -> None:
    bootstrap = Bootstrap("127.0.0.1:1")
    sent = {name: value or None for name, value in headers.items()}  # an empty header is none
    for number in range(2):
        context = bootstrap.context(headers, f"request-{number}", 10**13)
        assert isinstance(context, LambdaContext)
        expected = awslambdaric.bootstrap.create_lambda_context(
            sent.get("lambda-runtime-client-context"),
            sent.get("lambda-runtime-cognito-identity"),
            10**13,
            f"request-{number}",
            sent.get("lambda-runtime-invoked-function-arn"),
            sent.get("lambda-runtime-aws-tenant-id"),
        )
        assert seen(context) == seen(expected)
        assert context.get_remaining_time_in_millis() > 0


@pytest.mark.parametrize("headers", [{}, HEADERS, {**HEADERS, **IDENTITY}])
def test_a_context_shares_nothing_with_that_of_another_invocation(headers: dict[str, str]) -> None:
    bootstrap = Bootstrap("127.0.0.1:1")
    first, second = [bootstrap.context(headers, f"request-{number}", 10**13) for number in range(2)]
    first.identity.cognito_identity_id = "mine"
    for name, value in vars(first).items():
        assert isinstance(value, str | int | None) or value is not vars(second)[name], name
    assert second.identity.cognito_identity_id != "mine"


def test_a_version_without_tenants_makes_contexts_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(client: object, identity: object, deadline: int, request_id: str, arn: str) -> tuple[str, int, str]:
        return request_id, deadline, arn

    monkeypatch.setattr(awslambdaric.bootstrap, "create_lambda_context", create)
    assert Bootstrap("127.0.0.1:1").context(HEADERS, "request", 7) == ("request", 7, "arn:f")


def test_snapstart_needs_a_version_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(awslambdaric.bootstrap, "on_init_complete")
    with pytest.raises(SeamError, match="SnapStart needs awslambdaric 3.0 or newer"):
        Bootstrap("127.0.0.1:1").wait_for_restore()


@pytest.mark.parametrize("part", ["_get_handler", "LambdaRuntimeClient"])
def test_a_part_that_is_not_there(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(awslambdaric.bootstrap, part)
    with pytest.raises(SeamError, match=f"^awslambdaric 4.* has no {part} in awslambdaric.bootstrap"):
        Bootstrap("127.0.0.1:1")
